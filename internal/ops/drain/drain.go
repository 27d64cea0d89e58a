// Package drain says before a drain what would hold it.
package drain

import (
	"context"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
)

// Kube is what is asked of Kubernetes; *kube.Client is one.
type Kube interface {
	Blockers(ctx context.Context, name string) ([]kube.Blocker, error)
}

// Gates looks at the disruption budgets on a Kubernetes node: TM140 for one that can never be met, a warning
// for one that holds a pod for now. possible is false on a cluster of one node, where there is nowhere to
// drain to (TM142). node is the Talos address for the verdicts, nodes the number of members.
func Gates(ctx context.Context, k Kube, name, node string, nodes int) (verdicts []gate.Verdict, possible bool, err error) {
	if nodes == 1 {
		return []gate.Verdict{gate.New(gate.NowhereToDrain, gate.Warn, node, "the cluster has one node: there is nowhere to drain to, so that cordon and drain are skipped")}, false, nil
	}

	blockers, err := k.Blockers(ctx, name)
	if err != nil {
		return nil, true, err
	}

	for _, b := range blockers {
		if b.Never {
			verdicts = append(verdicts, gate.New(gate.BudgetNeverMet, gate.Refuse, node, "the disruption budget %s can never be met: %s", b.Budget, b.Message).
				WithRemedy("give its workload another replica, or loosen the budget"))
		} else {
			verdicts = append(verdicts, gate.New(gate.BudgetNeverMet, gate.Warn, node, "the disruption budget %s holds %s for now: %s", b.Budget, b.Pod, b.Message))
		}
	}

	if len(verdicts) == 0 {
		verdicts = []gate.Verdict{gate.New(gate.BudgetNeverMet, gate.Pass, node, "no disruption budget holds a pod")}
	}

	return verdicts, true, nil
}
