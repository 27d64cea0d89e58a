package wait_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/wait"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// viaLag is how much later a node answers through its endpoints: its own answer is enough.
const viaLag = 10 * time.Second

// node is one that comes up after a time, or refuses all.
func node(after time.Duration, deny error) *fake.Machine {
	m := fake.NewMachine("v1.13.9")
	m.Boots, m.DownUntil, m.Refuse = 2, time.Now().Add(after), deny
	m.ServiceList = []talos.Service{{ID: "kubelet", State: "running", Health: talos.Healthy}}
	m.Kinds = []talos.ResourceKind{{Type: "AddressStatuses.net.talos.dev", DefaultNamespace: "network", Aliases: []string{"addresses"}}}
	m.Spec = map[string]any{"linkName": "eth0"}

	return m
}

func run(t *testing.T, deny error, deadline time.Duration, texts ...string) (wait.Result, error) {
	t.Helper()

	conditions := make([]wait.Condition, len(texts))

	for i, text := range texts {
		var err error
		if conditions[i], err = wait.Parse(text); err != nil {
			t.Fatal(err)
		}
	}

	n := node(2*time.Second, deny)
	via := node(2*time.Second+viaLag, deny) // an endpoint backs off from it
	world := wait.Cluster{
		Now: time.Now,
		Targets: func(context.Context) ([]talos.Target, error) {
			return []talos.Target{{Address: "10.0.0.1", Hostname: "n1"}}, nil
		},
		Prober: func(talos.Target) probe.Prober {
			return probe.Prober{
				Name: "n1", Via: via, Now: time.Now,
				Fresh: func() (probe.API, probe.Close) { return n, func() error { return nil } },
			}
		},
	}

	return wait.For(t.Context(), world, conditions, time.Second, deadline)
}

func TestFor(t *testing.T) {
	t.Parallel()

	for _, text := range []string{
		"ready", "stage=running", "version=1.13.9", "service=kubelet", "service=kubelet:running", "rebooted=old",
		"resource=addresses/eth0/fe80::1/64", "resource=addresses/eth0/fe80::1/64:spec.linkName == 'eth0' && metadata.id.endsWith('::1/64')",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()

			if text == "resource=addresses/eth0/fe80::1/64" {
				text += ":true" // an ID with colons needs an expression
			}

			synctest.Test(t, func(t *testing.T) {
				res, err := run(t, nil, time.Minute, text)
				if err != nil || !res.Met || res.WaitedSeconds < 2 || res.WaitedSeconds >= viaLag.Seconds() || res.Attempts < 3 {
					t.Errorf("got %+v, %v", res, err)
				}
			})
		})
	}
}

func TestForEndsBadly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		res, err := run(t, nil, 10*time.Second, "ready", "version=v1.14.0")
		if errs.ExitCode(err) != errs.Timeout || res.Met || len(res.Seen) != 2 || !res.Seen[0].Met || res.Seen[1].Saw != "version v1.13.9" ||
			!strings.Contains(err.Error(), "n1: version v1.13.9") {
			t.Errorf("deadline: %+v, %v", res, err)
		}

		denied := errs.New(errs.Unreachable, "not authorized").WithKind(errs.KindPermissionDenied)
		if res, err = run(t, denied, time.Hour, "ready"); !errors.Is(err, denied) || res.WaitedSeconds > 1 {
			t.Errorf("what waiting cannot help was waited for: %+v, %v", res, err)
		}

		if res, err = run(t, nil, time.Hour, "resource=nosuch/x"); errs.ExitCode(err) != errs.Usage || res.WaitedSeconds > 5 {
			t.Errorf("an unknown type was waited for: %+v, %v", res, err)
		}

		if _, err = run(t, nil, time.Hour, "rebooted=2026-01-01T00:00:00Z"); errs.ExitCode(err) != errs.Usage {
			t.Errorf("another kind of proof counted: %v", err)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()

	for _, text := range []string{
		"", "nope", "ready=yes", "stage", "stage=", "etcd=well", "service=", "service=kubelet:", "resource=x", "resource=x/y:spec.", "resource=x/:true",
	} {
		if _, err := wait.Parse(text); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v, want a usage error", text, err)
		}
	}
}

// etcd=healthy is about the members on the control planes that were named: one that is off and was not named is not waited for.
func TestEtcdOfNamedNodes(t *testing.T) {
	t.Parallel()

	at := func(id, name, kind string) talos.Target {
		return talos.Target{Address: "10.0.0." + id, Hostname: name, Type: kind}
	}
	cp1, cp2, worker := at("1", "cp-1", target.ControlPlane), at("2", "cp-2", target.ControlPlane), at("9", "worker-1", target.Worker)

	for name, c := range map[string]struct {
		named   []talos.Target
		without string // The node that knows no leader.
		want    []string
	}{
		"the others are off":     {named: []talos.Target{cp1, cp2}, want: []string{"cp-1 healthy, 3 members", "cp-2 healthy, 3 members"}},
		"one of them is not":     {named: []talos.Target{cp1, cp2}, without: "cp-2", want: []string{"cp-1 healthy, 3 members", "cp-2 the etcd member on cp-2 has no leader"}},
		"with a worker":          {named: []talos.Target{cp1, worker}, want: []string{"cp-1 healthy, 3 members"}},
		"nobody was named":       {want: []string{" the etcd member cp-3 (3) is missing: no node answers for it"}},
		"only a worker was":      {named: []talos.Target{worker}, want: []string{" the etcd member cp-3 (3) is missing: no node answers for it"}},
		"one without any member": {named: []talos.Target{at("4", "cp-4", target.ControlPlane)}, want: []string{"cp-4 cp-4 has no known etcd member"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			condition, err := wait.Parse("etcd=healthy")
			if err != nil {
				t.Fatal(err)
			}

			synctest.Test(t, func(t *testing.T) {
				res, err := wait.For(t.Context(), wait.Cluster{
					Now: time.Now, Named: c.named != nil,
					Targets: func(context.Context) ([]talos.Target, error) { return c.named, nil },
					Etcd: func(_ context.Context, nodes []talos.Target) (etcd.View, error) {
						v := etcd.View{Known: true, Leader: "1"}
						for i, id := range []string{"1", "2", "3"} {
							v.Members = append(v.Members, etcd.Member{ID: id, Name: fmt.Sprint("cp-", i+1), Node: "10.0.0." + id, Healthy: true})
						}

						if len(nodes) == 0 {
							nodes = []talos.Target{cp1, cp2}
						}

						for _, n := range nodes {
							status := &talos.EtcdStatus{ID: strings.TrimPrefix(n.Address, "10.0.0."), LeaderID: "1"}
							if n.Hostname == c.without {
								status.LeaderID = ""
							}

							if status.ID != "4" {
								v.Answers = append(v.Answers, etcd.Answer{Target: n, Status: status})
							}
						}

						return v, nil
					},
				}, []wait.Condition{condition}, time.Second, 2*time.Second)

				var got []string
				for _, s := range res.Seen {
					got = append(got, s.Hostname+" "+s.Saw)
				}

				if !slices.Equal(got, c.want) || res.Met != !slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, "healthy, ") }) || res.Met != (err == nil) {
					t.Errorf("%q, %v: %v", got, res.Met, err)
				}
			})
		})
	}
}
