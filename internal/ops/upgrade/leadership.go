package upgrade

import (
	"context"
	"errors"
	"time"

	"github.com/talosmate/talosmate/internal/poll"
)

// leadershipTimeout is how long etcd may take to elect another leader.
const leadershipTimeout = 15 * time.Second

// giveUpLeadership hands the etcd leadership on before the leader goes away, so that nobody waits for an
// election. A single member has nobody to hand it to.
func (a *apply) giveUpLeadership(ctx context.Context, w *World, n NodePlan) error {
	view, err := a.fleet.Etcd(ctx)
	if err != nil || leaderOf(view) != n.Node || len(view.Members) < 2 {
		return nil //nolint:nilerr // the node's own gates look at etcd and refuse
	}

	return a.check(ctx, "leadership", n, "etcd's leader hands it on", func(ctx context.Context) error {
		if _, err := w.Change.EtcdForfeitLeadership(ctx); err != nil {
			// An election takes its place: slower, and as safe.
			a.tell(w.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		err := poll.Until(ctx, "another etcd leader", healthPoll/4, leadershipTimeout, func(ctx context.Context) (bool, string, error) {
			leader, err := a.fleet.leader(ctx)
			if err != nil {
				return false, err.Error(), nil
			}

			return leader != "" && leader != n.Node, "the leader is " + leader, nil
		})
		if errors.Is(err, poll.ErrDeadline) {
			a.tell(w.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		return err
	})
}
