package join_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/ops/join"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// TestAddFollowsTheMachine gives a machine another address with its configuration: 9.9.9.9 is silent from then on, and
// the members have newcomers, of which one at most is the machine.
func TestAddFollowsTheMachine(t *testing.T) {
	t.Parallel()

	_, worker, _ := configs(t)
	named := regexp.MustCompile(`(?m)^auto: .*$`).ReplaceAllString(worker, "hostname: new")

	newcomer := func(hostname string) talos.Member {
		return talos.Member{NodeRef: talos.NodeRef{Node: "8.8.8.8", Hostname: hostname}, NodeID: "n8", Addresses: []string{"8.8.8.8"}, Type: target.Worker}
	}

	for _, c := range []struct {
		name, config, uuid, found string
		members                   []talos.Member
		known                     []talos.Member
		kubernetes                string
		want                      runbook.Status
	}{
		{name: "by its hardware", config: worker, uuid: "u", found: "u", members: []talos.Member{newcomer("talos-abc")}, want: runbook.OK},
		{name: "by its name where hardware has no identity", config: named, members: []talos.Member{newcomer("new")}, want: runbook.OK},
		{name: "by its name in Kubernetes, without discovery", config: named, uuid: "u", found: "u", kubernetes: "new", want: runbook.OK},
		{name: "of a name that was known before", config: named, uuid: "u", found: "u", members: []talos.Member{newcomer("new")}, known: []talos.Member{newcomer("new")}, want: runbook.OK},
		{name: "another machine of that name", config: named, uuid: "u", found: "v", members: []talos.Member{newcomer("new")}, want: runbook.NotJoined},
		{name: "a newcomer of another name", config: named, members: []talos.Member{newcomer("else")}, want: runbook.NotJoined},
		{name: "a node that was there", config: worker, uuid: "u", found: "u", members: []talos.Member{newcomer("old")}, known: []talos.Member{newcomer("old")}, want: runbook.NotJoined},
		{name: "nobody new", config: named, uuid: "u", found: "u", want: runbook.NotJoined},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				text := c.config
				if c.kubernetes != "" {
					text = strings.ReplaceAll(text, "        skipNodeRegistration: true\n", "")
				}

				m := machine()
				m.UUID, m.Never = c.uuid, true

				if c.kubernetes != "" {
					m.Name = "new"
				}

				done := func() error { return nil }
				moved := func() *fake.Machine {
					m.Mu.Lock()
					defer m.Mu.Unlock()

					there := machine()
					there.UUID, there.Name, there.Bare, there.DownUntil = c.found, m.Name, m.Bare, m.DownUntil

					return there
				}

				candidate := candidate(&cluster{m: m}, text)
				candidate.Members = c.known
				candidate.At = func(t talos.Target) *probe.Node {
					there := moved()

					return &probe.Node{
						Target: t, Now: time.Now, Change: there, Etcd: candidate.Etcd,
						Fresh: func() (probe.API, probe.Close) { return there, done },
					}
				}
				candidate.Relist = func(context.Context) ([]talos.Member, error) {
					if !moved().Up() {
						return nil, nil
					}

					return c.members, nil
				}

				if c.kubernetes != "" {
					candidate.Kube = func(context.Context) (probe.Kube, string, error) {
						k := fake.NewKubernetes(c.kubernetes)
						k.Members[c.kubernetes].Addresses = []string{"8.8.8.8"}

						return k, "", nil
					}
				}

				o := options()
				o.RebootTimeout = 20 * time.Second

				res, err := join.Add(t.Context(), candidate, []byte(text), o)

				if res.Status != c.want || (err == nil) != (c.want == runbook.OK) || m.Count("apply") != 1 {
					t.Fatalf("%s after %d requests: %v", res.Status, m.Count("apply"), err)
				}

				if moved := res.MovedFrom == "9.9.9.9" && res.Node == "8.8.8.8"; moved != (c.want == runbook.OK) {
					t.Errorf("node %s, moved from %q", res.Node, res.MovedFrom)
				}
			})
		})
	}
}
