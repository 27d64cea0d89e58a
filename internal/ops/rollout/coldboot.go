package rollout

import (
	"context"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Which nodes are rebooted through their firmware after their upgrade.
const (
	ColdBootNone   = "none"
	ColdBootCanary = "canary"
	ColdBootEach   = "each"
)

// gateColdBoot warns (TM165) where most voters run a version that only kexec has started: a power cut would show whether they boot.
func (c *Cluster) gateColdBoot(ctx context.Context) []gate.Verdict {
	if c.BootAudit == nil {
		return nil
	}

	var voters []talos.Target

	for _, m := range c.Members {
		if m.Type == target.ControlPlane {
			voters = append(voters, m.Target())
		}
	}

	warm := make([]string, len(voters))

	SideBySide(voters, func(i int, t talos.Target) {
		if audit, err := c.BootAudit(ctx, t); err == nil && audit.Proof == talos.ThroughKexec {
			warm[i] = t.Name()
		}
	})

	names := strings.Fields(strings.Join(warm, " "))
	if 2*len(names) <= len(voters) {
		return nil
	}

	return []gate.Verdict{gate.New(gate.ColdBootUnproven, gate.Warn, "", "%d of %d voters run a version that only kexec has started: %s",
		len(names), len(voters), strings.Join(names, ", ")).
		WithRemedy("`talosmate node reboot -n NODE --reboot-mode powercycle`, one at a time, or --prove-cold-boot")}
}

// proves reports whether a node is rebooted through its firmware.
func (a *apply) proves(n NodePlan) bool {
	return a.o.ColdBoot == ColdBootEach || a.o.ColdBoot == ColdBootCanary && a.isCanary(n)
}

// coldBoot reboots a node that was upgraded through its firmware, as `node reboot` does, and notes it.
func (a *apply) coldBoot(ctx context.Context, on *probe.Node, n NodePlan, to string, res *upgrade.Result) error {
	a.tell(on.Target.Name(), "cold-boot", "rebooting through the firmware, to prove that it boots cold")

	if on.ControlPlane {
		if err := a.giveUpLeadership(ctx, on, n); err != nil {
			return err
		}
	}

	o := node.Options{Options: a.o.Node.Options, Action: node.Reboot, Mode: talos.RebootPowercycle}
	o.Drain, o.BeforeChange = !a.plan.Request.SkipDrain, a.beginChange

	got, err := node.Run(ctx, on, o, a.sink)
	if err == nil && !release.Same(got.RunningTag, to) {
		got.Status = runbook.RolledBack
		err = &errs.Error{
			Exit: errs.RolledBack, Node: on.Target.Address, Hostname: on.Target.Hostname,
			Err: fmt.Errorf("the firmware started %s instead of %s", got.RunningTag, to),
		}
	}

	res.ColdBoot = &upgrade.ColdBoot{OK: err == nil, BootIDAfter: got.BootIDAfter, DowntimeSeconds: got.DowntimeSeconds}
	res.DowntimeSeconds += got.DowntimeSeconds
	res.DrainedPods += got.DrainedPods

	if err != nil {
		res.Status, res.Error, res.Hint = got.Status, err.Error(), got.Hint
		res.ColdBoot.Error = err.Error()
	}

	return err
}

// unproved are the nodes whose cold boot is to be proved, with nothing else to do, and whose version only kexec has started:
// an earlier run upgraded them.
func (a *apply) unproved(ctx context.Context) []NodePlan {
	if a.cluster.BootAudit == nil {
		return nil
	}

	return lists.Filter(a.plan.Nodes, func(n NodePlan) bool {
		if n.Action != upgrade.ActSkip || !a.proves(n) {
			return false
		}

		audit, err := a.cluster.BootAudit(ctx, a.cluster.Target(n.NodeRef))

		return err == nil && audit.Proof == talos.ThroughKexec // else it is proved, or nothing says that it is not
	})
}

// coldBootHint says what becomes of --prove-cold-boot where no node is upgraded, or where others than those owe a proof.
func (a *apply) coldBootHint(owe []NodePlan) string {
	n, asked := lists.Find(a.plan.Nodes, a.proves)

	switch {
	case len(owe) > 0:
		return fmt.Sprintf("only kexec has started the version of %s: --prove-cold-boot reboots them through their firmware",
			lists.Join(owe, ", ", NodePlan.NodeName))
	case !asked || a.plan.Work > 0:
		return ""
	default:
		return fmt.Sprintf("nothing was upgraded, and no node of --prove-cold-boot is known to have been started by kexec alone: none was rebooted, and nothing proved; "+
			"`talosmate node boot-audit` shows what is proved, and `talosmate node reboot -n %s --reboot-mode powercycle` proves a node", n.NodeName())
	}
}

// proveEarlier reboots nodes that an earlier run upgraded and did not prove.
func (a *apply) proveEarlier(ctx context.Context) error {
	for _, n := range a.unproved(ctx) {
		t := a.cluster.Target(n.NodeRef)

		err := a.turn(ctx, n, func(n NodePlan) error {
			res := upgrade.Result{Status: runbook.AlreadyCurrent, TargetTag: n.To, Record: runbook.NewRecord(), ExtensionsBefore: []string{}, ExtensionsAfter: []string{}}
			res.SetNode(t)
			res.ServerTag, res.RunningTag = n.From, n.From

			err := a.coldBoot(ctx, a.cluster.Node(t), n, n.To, &res)
			a.set(n.Node, stateDone)

			if err != nil {
				a.set(n.Node, stateFailed)
			}

			a.note(res, err)

			return err
		})
		if err != nil {
			return err
		}
	}

	return nil
}
