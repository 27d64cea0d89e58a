package fleet_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/talos"
)

func node(name, version string) fleet.Node {
	return fleet.Node{NodeRef: talos.NodeRef{Node: "10.0.0." + name[len(name)-1:], Hostname: name}, Version: version}
}

func TestAssertNamesWhoBrokeIt(t *testing.T) {
	t.Parallel()

	f := fleet.Fleet{Nodes: []fleet.Node{node("n1", "v1.13.9"), node("n2", "v1.13.8")}, Etcd: fleet.Etcd{Healthy: true}}

	for text, want := range map[string]string{
		`all(nodes, n, n.version == "v1.13.9")`:                 "n2",
		`nodes.all(n, n.version == "v1.14.0")`:                  "n1 n2",
		`etcd.healthy && all(nodes, n, n.version == "v1.13.9")`: "n2",
		`size(nodes) == 3`:                                      "",
		`exists(nodes, n, n.version == "v1.14.0")`:              "",
		`etcd.healthy && !health.healthy`:                       "true",
		`all(nodes, n, n.hostname.startsWith("n"))`:             "true",
	} {
		compiled, err := fleet.Compile([]string{text})
		if err != nil {
			t.Fatal(err)
		}

		a := compiled[0].Assert(f)
		broken := make([]string, 0, len(a.BrokenBy))

		for _, r := range a.BrokenBy {
			broken = append(broken, r.Hostname)
		}

		got := strings.Join(broken, " ")
		if a.Holds {
			got = "true"
		}

		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestCompileRefusesUnknownFields(t *testing.T) {
	t.Parallel()

	for _, text := range []string{`all(nodes, n, n.vresion == "x")`, `members.size() > 1`, `size(nodes)`, `all(nodes, n`} {
		if _, err := fleet.Compile([]string{text}); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: %v, want a usage error", text, err)
		}
	}
}

func TestDiffIsByName(t *testing.T) {
	t.Parallel()

	before := fleet.Fleet{
		Nodes: []fleet.Node{node("n1", "v1.13.8"), node("n2", "v1.13.8")},
		Etcd:  fleet.Etcd{Members: []fleet.EtcdMember{{ID: "a", Name: "n1", Healthy: true}}},
	}
	after := fleet.Fleet{
		Nodes:  []fleet.Node{node("n2", "v1.13.9")},
		Etcd:   fleet.Etcd{Members: []fleet.EtcdMember{{ID: "a", Name: "n1", Healthy: false}}},
		Health: fleet.Health{Checks: []fleet.Finding{{ID: "etcd-health", Status: "fail", Node: "10.0.0.1", Hostname: "n1", Message: "away"}}},
	}

	lines := diff(t, before, after)
	for _, want := range []string{
		"change nodes.n2.version v1.13.8 v1.13.9", "remove nodes.n1.version v1.13.8 ", "change etcd.members.n1.healthy true false",
		"add health.checks.etcd-health@n1  fail: away",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}

	if lines = diff(t, before, before); lines != "" {
		t.Errorf("the same differs:\n%s", lines)
	}
}

func diff(t *testing.T, a, b fleet.Fleet) string {
	t.Helper()

	from, err := fleet.Encode(a)
	if err != nil {
		t.Fatal(err)
	}

	to, err := fleet.Encode(b)
	if err != nil {
		t.Fatal(err)
	}

	changes, err := fleet.Diff(from, to)
	if err != nil {
		t.Fatal(err)
	}

	var out strings.Builder

	for _, c := range changes {
		out.WriteString(strings.Join([]string{c.Op, c.Path, c.From, c.To}, " ") + "\n")
	}

	return out.String()
}

func TestCheck(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]errs.Code{
		`{"schema": "talosmate/v1/Fleet", "nodes": [], "later": 1}`: errs.OK,
		`{"schema": "talosmate/v1/EtcdStatusList"}`:                 errs.Usage,
		`not json`: errs.Usage,
	} {
		if got := errs.ExitCode(fleet.Check("file", []byte(text))); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}
