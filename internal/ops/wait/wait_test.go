package wait_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/wait"
	"github.com/talosmate/talosmate/internal/talos"
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
