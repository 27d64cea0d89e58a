package rollout

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

func heldBy(name string) clusterlock.Locker {
	return func(context.Context) (clusterlock.Held, error) {
		return nil, &kube.HeldError{State: kube.LockState{Held: true, Holder: name, Command: "talosmate upgrade apply", ExpiresAt: time.Now().Add(time.Minute)}}
	}
}

// lockedCluster is a fake Kubernetes whose lock can be read.
type lockedCluster struct {
	*fake.Kubernetes

	state kube.LockState
}

func (c lockedCluster) ReadLock(context.Context, time.Time) (kube.LockState, error) {
	return c.state, nil
}

// TestAnotherRunIsNamedFirst: somebody else's run has taken a node away, and with it etcd's leader. What the second
// run is told is who is at work, not what it finds broken; a mere plan looks all the same.
func TestAnotherRunIsNamedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOf(t, "v1.13.8", 2)
		f.nodes["worker-1"].DownUntil = time.Now().Add(time.Hour)

		k := lockedCluster{f.kube, kube.LockState{Held: true, Holder: "ann@host", Command: "talosmate upgrade apply", ExpiresAt: time.Now().Add(time.Minute)}}
		f.Kube = func(context.Context) (probe.Kube, string, error) { return k, "test", nil }

		if _, err := f.plan(Request{To: "v1.13.9"}); errs.ExitCode(err) != errs.Partial {
			t.Errorf("the plan: %v", err)
		}

		f.AwaitUnderway = time.Minute

		p, err := f.plan(Request{To: "v1.13.9"})
		if errs.ExitCode(err) != errs.Refused || !p.Refused || len(p.Gates) != 1 || !strings.Contains(err.Error(), "ann@host holds the cluster's lock") {
			t.Fatalf("%+v, %v", p, err)
		}

		ran := filepath.Join(t.TempDir(), "ran")

		res, err := Apply(t.Context(), f.Cluster, p, ApplyOptions{Node: options(), Hooks: Hooks{OnEnd: "touch " + ran, Timeout: time.Minute}}, progress.Discard{})
		if _, notThere := os.Stat(ran); notThere == nil {
			t.Error("the other run's end is not ours: the command of --on-end was run")
		}

		if res.Status != runbook.Refused || errs.ExitCode(err) != errs.Refused || !strings.Contains(res.Error, "TM143") {
			t.Errorf("%q, %v", res.Status, err)
		}

		if _, err = f.plan(Request{To: "v1.13.9"}, "TM143"); errs.ExitCode(err) != errs.Partial {
			t.Errorf("with the gate passed on purpose: %v", err)
		}
	})
}
