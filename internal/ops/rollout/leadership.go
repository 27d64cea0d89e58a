package rollout

import (
	"context"
	"errors"
	"time"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
)

// leadershipTimeout is how long etcd may take to elect another leader.
const leadershipTimeout = 15 * time.Second

// giveUpLeadership hands the etcd leadership on before the leader goes away, so that nobody waits for an
// election. A single member has nobody to hand it to.
func (a *apply) giveUpLeadership(ctx context.Context, node *probe.Node, n NodePlan) error {
	view, err := a.cluster.Etcd(ctx)
	if err != nil || leaderOf(view) != n.Node || len(view.Members) < 2 {
		return nil //nolint:nilerr // the node's own gates look at etcd and refuse
	}

	return a.check(ctx, "leadership", n, "etcd's leader hands it on", func(ctx context.Context) error {
		if _, err := node.Change.EtcdForfeitLeadership(ctx); err != nil {
			// An election takes its place: slower, and as safe.
			a.tell(node.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		err := poll.Until(ctx, "another etcd leader", healthPoll/4, leadershipTimeout, func(ctx context.Context) (bool, string, error) {
			leader, err := a.cluster.leader(ctx)
			if err != nil {
				return false, err.Error(), nil
			}

			return leader != "" && leader != n.Node, "the leader is " + leader, nil
		})
		if errors.Is(err, poll.ErrDeadline) {
			a.tell(node.Target.Name(), "leadership", "%v: going on, etcd elects another leader", err)

			return nil
		}

		return err
	})
}
