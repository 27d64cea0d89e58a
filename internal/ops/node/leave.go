package node

import (
	"context"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
)

// leaveEtcd takes the member of a control plane that is removed out of etcd before its data is wiped, behind
// another look at quorum: a drain took its time. A graceful reset would do it too, on the node, where a
// refusal shows in the log only.
func (r *run) leaveEtcd(ctx context.Context) error {
	if r.o.Action != Remove || !r.w.ControlPlane {
		return nil
	}

	view, err := r.w.Etcd(ctx)
	if err != nil {
		return err
	}

	m, ok := view.MemberOn(r.w.Target)
	if !ok {
		r.stage("etcd", "the node has no etcd member")

		return nil
	}

	verdicts := r.checkEtcd(view)
	if err = gate.Apply(verdicts, r.o.Overrides); err != nil {
		r.res.Gates = append(r.res.Gates, verdicts...)
		r.res.Status = Refused

		return err
	}

	r.left = true
	r.stage("etcd", "taking member %s out of etcd", m.ID)

	change, err := r.w.Leave(ctx, view, m, r.beforeChange, r.sink)
	r.res.Etcd = &change

	switch {
	case err == nil:
	case errs.ExitCode(err) == errs.Unknown:
		return r.fail(Unknown, "%w", err)
	default:
		return err
	}

	r.stage("etcd", "%d voters are left, %d of them must agree", change.VotersAfter, change.QuorumAfter)

	if r.keep != nil {
		r.keep() // what is no control plane any more gets no pods back
	}

	return nil
}
