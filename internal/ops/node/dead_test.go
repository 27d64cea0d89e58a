package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// TestRemoveDead takes nodes out of the cluster without them, and only those of which every witness says that
// they are dead. Nothing is ever sent to the node.
func TestRemoveDead(t *testing.T) {
	t.Parallel()

	off := func(m *fake.Machine, _ *fake.Kubernetes) { m.Never, m.DownUntil = true, time.Now() }
	silent := func(_ *fake.Machine, k *fake.Kubernetes) { k.Members["n1"].Ready, k.Members["n1"].Silent = false, true }
	dead := scripts(off, silent)
	away := scripts(off, func(_ *fake.Machine, k *fake.Kubernetes) { k.Fail["nodes"] = errAway })

	for _, c := range []struct {
		name    string
		script  script
		kind    string
		healthy bool // Its etcd member.
		expel   error
		o       func(*node.Options)
		after   time.Duration

		want     runbook.Status
		code     errs.Code
		gate     gate.Code
		expelled bool
		deleted  bool
		hint     string
	}{
		{name: "a worker", script: dead, kind: target.Worker, want: runbook.OK, deleted: true, hint: "was not wiped"},
		{name: "a control plane", script: dead, want: runbook.OK, expelled: true, deleted: true, hint: "was not wiped"},
		{name: "a second run", script: scripts(off, func(_ *fake.Machine, k *fake.Kubernetes) { delete(k.Members, "n1") }), kind: target.Worker, want: runbook.OK, deleted: true},
		{name: "a dry run", script: dead, o: func(o *node.Options) { o.DryRun = true }, want: runbook.Planned, hint: "was not wiped"},
		{name: "Kubernetes hears from it", script: off, kind: target.Worker, want: runbook.Refused, code: errs.Refused, gate: gate.NodeAlive, hint: "within a minute"},
		{name: "it answers", script: silent, kind: target.Worker, want: runbook.Refused, code: errs.Refused, gate: gate.NodeAlive, hint: "omit --dead"},
		{
			name: "it answers after a while", kind: target.Worker,
			script: scripts(silent, func(m *fake.Machine, _ *fake.Kubernetes) { m.DownUntil = time.Now().Add(10 * time.Second) }),
			want:   runbook.Refused, code: errs.Refused, gate: gate.NodeAlive,
		},
		{name: "its member is healthy", script: dead, healthy: true, want: runbook.Refused, code: errs.Refused, gate: gate.HealthyMember},
		{name: "Kubernetes is away", script: away, want: runbook.Refused, code: errs.Refused, gate: gate.KubernetesAway},
		{
			name: "Kubernetes is away, overridden", script: away, o: func(o *node.Options) { o.Overrides = gate.Overrides{"TM141"} },
			want: runbook.OK, expelled: true,
		},
		{
			name: "Kubernetes is away, overridden for a worker", script: away, kind: target.Worker,
			o: func(o *node.Options) { o.Overrides = gate.Overrides{"TM141"} }, want: runbook.Failed, code: errs.Refused,
		},
		{name: "etcd refuses", script: dead, expel: errNo, want: runbook.Failed, code: errs.Failed},
		{name: "etcd's answer is lost", script: dead, expel: &errs.Error{Exit: errs.Unknown, Err: errAway}, want: runbook.Unknown, code: errs.Unknown},
		{name: "Kubernetes refuses", script: scripts(dead, func(_ *fake.Machine, k *fake.Kubernetes) { k.Fail["delete"] = errors.New("deletion refused") }), want: runbook.Failed, code: errs.Failed, expelled: true},
		{name: "interrupted", script: dead, after: 5 * time.Second, want: runbook.Interrupted, code: errs.Interrupted, hint: "left as it was"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)

				if c.after > 0 {
					time.AfterFunc(c.after, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })
				}

				expelled := false

				w, m, k := newWorld("n1")
				if c.script != nil {
					c.script(m, k)
				}

				w.Target.Type, w.ControlPlane = c.kind, c.kind == ""
				w.Etcd = func(context.Context) (etcd.View, error) {
					return etcd.View{Known: true, Members: []etcd.Member{
						{ID: "1", Node: "n1", Healthy: c.healthy}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y", Healthy: true},
					}}, nil
				}
				w.Expel = func(_ context.Context, v etcd.View, member etcd.Member, begin func(), _ progress.Sink) (etcd.MembershipChange, error) {
					begin()

					expelled = c.expel == nil

					return v.PlanRemove(member), c.expel
				}

				o := options(node.Remove)
				o.Dead, o.DeleteKubernetesNode = true, true

				if c.o != nil {
					c.o(&o)
				}

				res, err := node.Run(ctx, w, o, progress.Discard{})
				if res.Status != c.want || errs.ExitCode(err) != c.code || !strings.Contains(res.Hint, c.hint) || !res.Dead || len(res.Wipes) > 0 {
					t.Errorf("status %s, exit %d, want %s, %d, hint %q: %v", res.Status, errs.ExitCode(err), c.want, c.code, res.Hint, err)
				}

				var typed *errs.Error
				if c.gate != "" && (!errors.As(err, &typed) || typed.Gate != string(c.gate)) {
					t.Errorf("refused with %v, want %s", err, c.gate)
				}

				if expelled != c.expelled || k.Has("n1") == c.deleted || len(m.Calls) > 0 || k.Cordoned("n1") {
					t.Errorf("expelled %t, deleted %t, sent %v, cordoned %t", expelled, !k.Has("n1"), m.Calls, k.Cordoned("n1"))
				}
			})
		})
	}
}
