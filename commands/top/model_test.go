package top

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

func member(name string) talos.Member {
	return talos.Member{NodeRef: talos.NodeRef{Node: "10.0.0." + name, Hostname: name}, Type: "worker", TalosVersion: "v1.14.1"}
}

func newTest(names ...string) *model {
	m := newModel(nil, "prod", 2*time.Second, func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }, true)

	var list []talos.Member
	for _, name := range names {
		list = append(list, member(name))
	}

	m.setMembers(list)

	return m
}

func press(m *model, keys ...string) {
	for _, key := range keys {
		m.key(key)
	}
}

// zoo clears the screen, colours, retitles, reorders text and breaks lines.
const zoo = "x\x1b[2J\x1b]0;t\x07\u009b31m\u202e\r\n\ty"

// TestTextOfANodeIsNeutral puts control sequences into everything that a node or a cluster says.
func TestTextOfANodeIsNeutral(t *testing.T) {
	t.Parallel()

	for _, color := range []bool{true, false} {
		m := newTest("a")
		m.paint, m.context, m.problem, m.warning = palette{color}, zoo, "", ""
		m.setMembers([]talos.Member{{NodeRef: talos.NodeRef{Node: zoo, Hostname: zoo}, Type: zoo, TalosVersion: zoo}})
		m.take(nodeMsg{address: zoo, sample: sample{version: zoo, stage: zoo, services: []talos.Service{{ID: zoo, Health: "unhealthy"}}}})
		m.cluster(etcdMsg{[]talos.EtcdStatus{{NodeRef: talos.NodeRef{Node: zoo}}}, errors.New(zoo)})
		m.cluster(healthMsg{health.NewResult("full", "client", []health.Finding{{ID: zoo, Status: health.Fail, Hostname: zoo, Message: zoo}}), errors.New(zoo)})
		m.cluster(upgradeMsg{rollout.StatusResult{
			Lock:    kube.LockState{Held: true, Holder: zoo, Command: zoo},
			Nodes:   []rollout.NodeStatus{{NodeRef: talos.NodeRef{Hostname: zoo}, State: zoo, Message: zoo}},
			Journal: []runbook.Entry{{Node: zoo, Stage: zoo, Message: zoo}},
		}, nil})

		screens := []string{strings.Join(m.screen(), "\n")}

		m.width, m.height = 200, 60
		screens = append(screens, strings.Join(m.screen(), "\n"))

		for _, p := range []pane{describing, logging} {
			m.open(p, zoo)
			m.takeText(textMsg{m.generation, []byte(zoo), errors.New(zoo)})
			screens = append(screens, strings.Join(m.screen(), "\n"))
		}

		for _, screen := range screens {
			plain := ansi.Strip(screen)
			if !strings.Contains(screen, "x") || iostreams.Neutral(plain) != plain || strings.Contains(plain, "\t") {
				t.Errorf("%q", screen)
			}

			own := strings.NewReplacer("\x1b[m", "", "\x1b[1m", "", "\x1b[7m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "").Replace(screen)
			if strings.Contains(own, "\x1b") {
				t.Errorf("a sequence that is not ours: %q", own)
			}

			if !color && strings.Contains(screen, "\x1b[3") {
				t.Errorf("colour: %q", screen)
			}
		}
	}
}

// TestTheScreenFits draws many nodes, checks and phases on screens of all sizes.
func TestTheScreenFits(t *testing.T) {
	t.Parallel()

	names := []string{}
	findings := []health.Finding{}

	for i := range 40 {
		names = append(names, fmt.Sprintf("a-node-with-a-long-name-%02d", i))
		findings = append(findings, health.Finding{ID: "talos-api", Status: health.Fail, Hostname: names[i], Message: strings.Repeat("long ", 50)})
	}

	m := newTest(names...)
	m.cluster(healthMsg{health.NewResult("full", "client", findings), nil})
	m.cluster(upgradeMsg{rollout.StatusResult{
		Lock: kube.LockState{Held: true, Holder: "me"}, Nodes: []rollout.NodeStatus{{NodeRef: talos.NodeRef{Hostname: "x"}, State: "installing"}},
		Journal: []runbook.Entry{{Stage: "drain", Message: "evicting pods"}},
	}, nil})

	for width := 1; width <= 220; width += 3 {
		for height := 1; height <= 70; height++ {
			m.width, m.height = width, height

			lines := m.screen()
			if len(lines) != height && height >= 4 {
				t.Fatalf("%dx%d: %d lines", width, height, len(lines))
			}

			for _, line := range lines {
				if ansi.StringWidth(line) > width {
					t.Fatalf("%dx%d: %q", width, height, line)
				}
			}
		}
	}

	m.width, m.height = 80, 24

	text := strings.Join(m.screen(), "\n")
	for _, want := range []string{"more nodes", "CHECKS", "talos-api", "UPGRADE", "installing", "more"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q:\n%s", want, text)
		}
	}

	press(m, "end")

	if text = strings.Join(m.screen(), "\n"); !strings.Contains(text, "a-node-with-a-lon") || m.selected != "10.0.0."+names[39] {
		t.Errorf("the selected node is not in view:\n%s", text)
	}
}

// TestANodeIsAskedOnceAtATime, and less often the longer it does not answer.
func TestANodeIsAskedOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newTest("a")
		if m.ask("10.0.0.a") == nil || m.ask("10.0.0.a") != nil || m.ask("10.0.0.b") != nil {
			t.Fatal("a node that is being asked, or that nobody knows, is asked")
		}

		pause := func(err error) time.Duration {
			began := time.Now()
			msg := m.take(nodeMsg{address: "10.0.0.a", sample: sample{ready: true}, err: err})()

			if due, ok := msg.(nodeDue); !ok || due.address != "10.0.0.a" {
				t.Fatalf("%#v", msg)
			}

			return time.Since(began)
		}

		down := errors.New("it is down")
		for i, want := range []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second} {
			if got := pause(down); got != want {
				t.Errorf("after failure %d it is asked after %s, want %s", i+1, got, want)
			}
		}

		if text := strings.Join(m.screen(), "\n"); !strings.Contains(text, "no answer") || !strings.Contains(text, "0/1 ready") {
			t.Error(text)
		}

		if got := pause(nil); got != 2*time.Second || m.nodes["10.0.0.a"].fails != 0 {
			t.Errorf("after an answer it is asked after %s", got)
		}
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()

	m := newTest("a", "b", "c")
	for name, used := range map[string]float64{"a": 0.2, "b": 0.9, "c": 0.5} {
		m.take(nodeMsg{address: "10.0.0." + name, sample: sample{memory: used, disk: 1 - used, ready: true}})
	}

	order := func() string {
		var out strings.Builder
		for _, n := range m.shown() {
			out.WriteString(n.name())
		}

		return out.String()
	}

	for _, step := range []struct{ keys, order, selected string }{
		{"", "abc", "a"},
		{"down j down down", "abc", "c"},
		{"k", "abc", "b"},
		{"s s", "bca", "b"},
		{"r", "acb", "b"},
		{"r s", "acb", "b"},
		{"s s", "abc", "b"},
		{"/ c enter", "c", "c"},
		{"/ backspace x enter", "", "c"},
		{"esc home", "abc", "a"},
		{"/ b esc", "abc", "b"},
	} {
		press(m, strings.Fields(step.keys)...)

		if m.order == "" || order() != step.order || m.selected != "10.0.0."+step.selected {
			t.Errorf("after %q: %s, %s selected; want %s and %s", step.keys, order(), m.selected, step.order, step.selected)
		}
	}

	if m.key("d") == nil || m.pane != describing || m.key("esc") != nil || m.pane != overview {
		t.Error("d describes, esc goes back")
	}

	if m.key("l") == nil || m.pane != logging || m.service != "machined" {
		t.Errorf("l shows the logs of %q", m.service)
	}

	late := textMsg{generation: m.generation - 1, text: []byte("of another pane")}
	if m.takeText(late); len(m.lines) > 0 {
		t.Error("an answer for a pane that was left is shown")
	}

	m.height = 5
	m.takeText(textMsg{generation: m.generation, text: []byte("1\n2\n3\n4\n5\n6\n")})

	if text := strings.Join(m.screen(), "\n"); !strings.Contains(text, "4\n5\n6\n") || !strings.Contains(text, "4-6 of 6") {
		t.Errorf("the end of a log is in view:\n%s", text)
	}

	press(m, "up", "q")

	if cmd := m.key("q"); cmd == nil {
		t.Error("q does not quit")
	} else if _, quit := cmd().(tea.QuitMsg); !quit || m.interrupted {
		t.Error("q does not quit")
	}

	if m.key("ctrl+c"); !m.interrupted {
		t.Error("ctrl+c is not an interruption")
	}
}

// TestANodeThatLeftIsForgotten, and what is known of those that stay is kept.
func TestANodeThatLeftIsForgotten(t *testing.T) {
	t.Parallel()

	m := newTest("a", "b")
	m.take(nodeMsg{address: "10.0.0.b", sample: sample{stage: "running", ready: true}})
	m.setMembers([]talos.Member{member("b"), member("c")})

	if m.take(nodeMsg{address: "10.0.0.a"}) != nil || len(m.nodes) != 2 || !m.nodes["10.0.0.b"].known || m.selected != "10.0.0.b" {
		t.Errorf("%v, %s selected", m.nodes, m.selected)
	}

	if cmds := m.askNew(); len(cmds) != 1 || !m.nodes["10.0.0.c"].asking {
		t.Errorf("%d nodes are asked first", len(cmds))
	}
}
