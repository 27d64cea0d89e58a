package upgrade

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// observeReturning is for a node that does not answer, or is busy: if an earlier run's note says that it is on
// its way to a new version, it is waited for. What was seen is given back otherwise.
func (r *run) observeReturning(ctx context.Context, seen facts, cause error) (facts, error) {
	if r.o.DryRun || !r.isUnderway(ctx, underwayTimeout) {
		return seen, cause
	}

	r.stage("wait", "an earlier run left the node on its way: waiting for at most %s", r.o.RebootTimeout)

	var f facts

	err := poll.Until(ctx, r.w.Target.Name()+" to answer", boot.VerifyPoll, r.o.RebootTimeout, func(ctx context.Context) (bool, string, error) {
		var err error
		if f, err = r.observe(ctx); err != nil && talos.Transient(err) {
			return false, err.Error(), nil
		}

		return err == nil && !boot.Busy(f.status), f.status.String(), err
	})

	return f, err
}

// underwayTimeout is how long Kubernetes may take to say whether an earlier run left a node on its way.
const underwayTimeout = 20 * time.Second

// isUnderway looks for the node's marker without the node's help. Kubernetes is asked for as long as patience
// lasts while it does not answer.
func (r *run) isUnderway(ctx context.Context, patience time.Duration) bool {
	if r.localNote() != "" {
		return true
	}

	var nodes []kube.Node

	// The API server may be on the very node.
	err := poll.Until(ctx, "Kubernetes", insistEvery, patience, func(ctx context.Context) (bool, string, error) {
		k, _, err := r.w.Kube(ctx)
		if err == nil {
			nodes, err = k.Nodes(ctx)
		}

		if err != nil {
			return false, err.Error(), nil
		}

		return true, "", nil
	})
	if err != nil {
		return false
	}

	at := slices.IndexFunc(nodes, func(n kube.Node) bool {
		return n.Name == r.w.Target.Hostname || slices.Contains(n.Addresses, r.w.Target.Address)
	})

	if at < 0 {
		return false
	}

	return nodes[at].Annotations[MarkerAnnotation] != "" || nodes[at].CordonedFor(r.o.Reason)
}

// settleInstall is for an install whose end was not seen: whether it finished, only a boot tells, and a
// second install before it could overwrite what runs. done says that the target came up.
func (r *run) settleInstall(ctx context.Context, f *facts) (done bool, err error) {
	r.stage("install", "an install of %s began at %s and its end was not seen: rebooting to see which version comes up",
		f.marker.Target, f.marker.Time.UTC().Format(time.RFC3339))

	if err = r.clear(ctx); err != nil {
		return false, err
	}

	if err = r.quorumAgain(ctx); err != nil {
		return false, err
	}

	asked, err := r.askReboot(ctx, *f, false)
	if err != nil {
		return false, err
	}

	if err = r.awaitBoot(ctx, *f, asked); err != nil {
		return false, err
	}

	var now talos.Version

	if now, err = r.readVersion(ctx); err != nil {
		return false, err
	}

	if release.Same(now.Tag, f.target()) {
		r.res.ResumedInstall = true

		return true, r.verify(ctx, *f)
	}

	r.stage("install", "%s came up: the install had not finished, so that it is done now", now.Tag)

	if err = r.settled(ctx); err != nil {
		return false, err
	}

	if err = r.mark(ctx, ""); err != nil {
		return false, r.fail(InstallFailed, "cannot take the note of the broken install away: %w", err)
	}

	// The second act begins like the first: with the boot that runs now.
	r.keep, r.res.Cordoned = nil, false

	if err = r.reachable(ctx); err != nil {
		return false, err
	}

	again, err := r.observe(ctx)
	if err != nil {
		return false, err
	}

	*f = again

	return false, nil
}

// reachable waits until the endpoints find the node again: they back off from one that was away, for many seconds
// after it answers for itself.
func (r *run) reachable(ctx context.Context) error {
	err := poll.Until(ctx, "the endpoints to reach "+r.w.Target.Name(), boot.VerifyPoll, r.o.ReadyTimeout, func(ctx context.Context) (bool, string, error) {
		for _, way := range []Node{r.w.Read, r.w.Change} {
			if _, err := way.Version(ctx); err != nil && talos.Transient(err) {
				return false, err.Error(), nil
			}
		}

		return true, "", nil
	})
	if err != nil {
		return r.unverified(ctx, err)
	}

	return nil
}

// settled waits until the node, its etcd member and its kubelet are well.
func (r *run) settled(ctx context.Context) error {
	if _, err := r.awaitSettled(ctx); err != nil {
		return err
	}

	if err := r.awaitEtcd(ctx); err != nil {
		return err
	}

	return r.awaitKubernetes(ctx)
}
