package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/output"
)

// applyOptions are the flags of apply in addition to the request's.
type applyOptions struct {
	request   rollout.Request
	apply     rollout.ApplyOptions
	cel       []string
	commands  []string
	onFailure string
	window    string
	snapshot  string
	report    string
}

const (
	halt     = "halt"
	rollback = "rollback"
	noFile   = "none"
)

func newCmdApply(f *cmdutil.Factory) *cmdutil.Cmd {
	var o applyOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "apply [PLAN]", Short: "Upgrade the cluster node by node, by a plan",
		Long: "Upgrade the cluster by a plan file, or plan and run for the nodes chosen (-A for all). First a snapshot of\n" +
			"etcd, which must be one that restores (TM164), then the images on all nodes, then the control planes one at a\n" +
			"time with etcd's leader last, then the workers, --max-parallel at once. Between nodes the cluster must be as\n" +
			"healthy as before, and your own gates hold.\n\n" +
			"After a failure no further node is started, and those under way are waited for. Run the same command again\n" +
			"after whatever broke it off: what is done is skipped, what is half done is finished, nothing is installed\n" +
			"twice. One run at a time holds the cluster's lock.\n\n" +
			"--before-node, --after-node and --on-end run your commands, with what they are about in TALOSMATE_PHASE, _NODE,\n" +
			"_ADDRESS, _ROLE, _FROM, _TO, _OUTCOME and _PLAN, and as JSON on standard input. A run that continues another\n" +
			"runs them again for what is not done: each must be safe to repeat.\n\n" +
			"A plan file is run as it is: one that was edited is exit code 2, and one that is not what would be done now\n" +
			"(its nodes, versions, images or options) is refused by TM147.",
		Example: "  talosmate upgrade apply plan.json --report upgrade.md\n" +
			"  talosmate upgrade apply -A --to v1.14.1 --max-parallel 2 --gate 'healthy && failed == 0' --on-failure rollback",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Named: true},
		Flags: func(fs *cmdutil.Flags) {
			addRequestFlags(fs, &o.request)
			o.addFlags(fs)
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[rollout.ApplyResult]("UpgradeApplyResult"), func(c *cmdutil.Call) error { return runApply(c, o) })
}

func (o *applyOptions) addFlags(fs *cmdutil.Flags) {
	n := &o.apply.Node
	n.Wait = true

	fs.StringArrayVar(&o.cel, "gate", nil, "CEL `expression` that must hold before each node: healthy, problems, nodes, upgraded, remaining, failed, next, to, elapsed, and k8s(APIVERSION, KIND, NAMESPACE, NAME) for an object of Kubernetes (repeatable)")
	fs.StringArrayVar(&o.commands, "gate-command", nil, "shell `command` that must succeed before each node (repeatable); it receives TALOSMATE_NEXT_NODE")
	fs.StringVar(&o.apply.Hooks.BeforeNode, "before-node", "", "shell `command` before each node; if it fails, nothing is done to the node and the run ends")
	fs.StringVar(&o.apply.Hooks.AfterNode, "after-node", "", "shell `command` after each node, whatever became of it; if it fails, the run ends")
	fs.StringVar(&o.apply.Hooks.OnEnd, "on-end", "", "shell `command` at the end, also after a failure and an interrupt")
	fs.Positive(&o.apply.Hooks.Timeout, "hook-timeout", 5*time.Minute, "how long a command of --before-node, --after-node or --on-end may take")
	fs.Positive(&o.apply.GateTimeout, "gate-timeout", 5*time.Minute, "how long health and gates are waited for")
	fs.DurationVar(&o.apply.Pause, "pause-between", 0, "wait this long between nodes")
	fs.DurationVar(&o.apply.Soak, "soak", 0, "watch the cluster this long after the canary")
	fs.NotNegative("pause-between", "soak")
	fs.Choice(&o.onFailure, "on-failure", halt, "stop, or bring the failed node back to its version before", halt, rollback)
	fs.Choice(&o.apply.ColdBoot, "prove-cold-boot", rollout.ColdBootNone, "reboot through the firmware once after the upgrade, since kexec hides a node that no longer boots",
		rollout.ColdBootNone, rollout.ColdBootCanary, rollout.ColdBootEach)
	fs.StringVar(&o.window, "window", "", `start no node outside this maintenance window, "Sat 02:00-05:00" in local time`)
	fs.StringVar(&o.snapshot, "snapshot", "", "`file` for etcd's snapshot, or none (default: etcd-CONTEXT-TIME.db in the working directory)")
	fs.StringVar(&o.report, "report", "", "write a Markdown report to this `file`, and a timeline beside it (.svg)")
	fs.Positive(&n.PullTimeout, "pull-timeout", 15*time.Minute, "how long a node's pull of the image may take")
	fs.Positive(&n.InstallTimeout, "install-timeout", 30*time.Minute, "how long a node's install may take")
	fs.Drain(&n.DrainTimeout, &n.Volumes)
	fs.RebootMode(&n.RebootMode)
	fs.Positive(&n.RebootTimeout, "reboot-timeout", 15*time.Minute, "how long a node may take to boot")
	fs.Positive(&n.ReadyTimeout, "ready-timeout", 10*time.Minute, "how long a node may take to be healthy after the boot")
}

// complete checks the flags and fills in what follows from them.
func (o *applyOptions) complete(c *cmdutil.Call) error {
	if o.apply.Soak > 0 && o.request.Canary == "" {
		return errs.Usagef("--soak watches a canary: name it with --canary")
	}

	if o.apply.ColdBoot == rollout.ColdBootCanary && o.request.Canary == "" {
		return errs.Usagef("--prove-cold-boot canary reboots a canary: name it with --canary")
	}

	if o.apply.ColdBoot != rollout.ColdBootNone && o.request.InstallOnly {
		return errs.Usagef("--prove-cold-boot reboots nodes, and --install-only does not: give one of them")
	}

	o.apply.RollBack = o.onFailure == rollback

	var err error
	if o.apply.Window, err = rollout.ParseWindow(o.window); err != nil {
		return err
	}

	for _, text := range o.cel {
		g, err := celGate(text, objectsOf(c))
		if err != nil {
			return err
		}

		o.apply.Gates = append(o.apply.Gates, g)
	}

	for _, text := range o.commands {
		o.apply.Gates = append(o.apply.Gates, rollout.CommandGate(text))
	}

	return nil
}

func runApply(c *cmdutil.Call, o applyOptions) error {
	var planned *rollout.Plan

	if len(c.Args) == 1 {
		p, err := PlanFile(c, c.Args[0], rollout.ReadPlan, "to", "image", "via", "max-parallel", "canary", "drain", "install-only", "reboot-only")
		if err != nil {
			return err
		}

		planned, o.request = &p, p.Request
	} else if !c.Selection().Explicit() {
		return errs.Usagef("no nodes chosen: a command that changes something never picks nodes automatically").
			WithHint("%s", c.Again("-n", "NODE"))
	}

	if err := checkRequest(o.request); err != nil {
		return err
	}

	if err := o.complete(c); err != nil {
		return err
	}

	if err := cmdutil.Writable(o.report); err != nil {
		return err
	}

	fleet, holder, err := Fleet(c, "talosmate upgrade apply")
	if err != nil {
		return err
	}

	if err = chosen(c, &o.request); err != nil {
		return err
	}

	if !c.DryRun {
		fleet.AwaitUnderway, fleet.Progress = o.apply.Node.RebootTimeout, c.Progress()
	}

	plan, err := makeOrCheck(c, fleet, o.request, planned)
	if err != nil && len(plan.Nodes) == 0 && !plan.Refused {
		return err
	}

	c.ActsOn(plan.Request.Nodes)

	n := &o.apply.Node
	n.Overrides, n.DryRun, n.BeforeChange = c.Overrides, c.DryRun, c.BeginChange
	n.Reason = holder.Reason(upgrade.Purpose(), "to "+plan.To)
	o.apply.Journal = journal(c)
	o.apply.Hooks.Warn = func(err error) { c.Warn("%v", err) }
	o.apply.Snapshot = snapshotPath(o.snapshot, plan.Cluster, time.Now())

	res, err := rollout.Apply(c.Context(), fleet, plan, o.apply, c.Progress())

	if err == nil && res.Hint != "" {
		c.Warn("%s", res.Hint)
	}

	if o.report != "" && !c.DryRun {
		err = errors.Join(err, writeReport(&res, o.report))
	}

	return cmdutil.PrintResult(c, res, err, string(res.Status), showApply)
}

// makeOrCheck plans for what the flags ask for, or for what a plan file does.
func makeOrCheck(c *cmdutil.Call, f *rollout.Cluster, r rollout.Request, planned *rollout.Plan) (rollout.Plan, error) {
	if planned != nil {
		return rollout.Replan(c.Context(), f, *planned, c.Overrides)
	}

	return rollout.MakeWholePlan(c.Context(), f, r, c.Overrides)
}

// PlanFile reads a plan that was reviewed. It decides about the nodes and about some flags, which are not given again then.
func PlanFile[P any](c *cmdutil.Call, path string, read func([]byte) (P, error), decides ...string) (p P, err error) {
	for _, name := range decides {
		if c.Cmd.Flags().Changed(name) {
			return p, errs.Usagef("--%s is in the plan already", name).WithHint("make another plan with it")
		}
	}

	if c.Selection().Explicit() {
		return p, errs.Usagef("the plan names its nodes already").WithHint("make another plan for the nodes")
	}

	raw, err := c.Input(path, "the plan")
	if err != nil {
		return p, err
	}

	return read(raw)
}

func snapshotPath(flag, cluster string, now time.Time) string {
	switch flag {
	case noFile:
		return ""
	case "":
		return etcd.FileName(cluster, now)
	default:
		return flag
	}
}

func writeReport(res *rollout.ApplyResult, path string) error {
	res.Report = path
	res.Timeline = strings.TrimSuffix(path, filepath.Ext(path)) + ".svg"

	err := fsutil.WriteFile(res.Timeline, 0o644, func(w io.Writer) error { return rollout.WriteTimeline(w, *res) })

	return errors.Join(err, fsutil.WriteFile(path, 0o644, func(w io.Writer) error { return rollout.WriteReport(w, *res, res.Timeline) }))
}

func showApply(w io.Writer, r rollout.ApplyResult) error {
	if r.DryRun {
		return showPlan(w, r.Plan)
	}

	fmt.Fprintf(w, "%s to %s: %s, %d upgraded, %d failed, %d skipped, %d not started, %s\n", output.Line(r.Cluster), output.Cell(r.To), r.Status,
		r.Upgraded, r.Failed, len(r.Skipped), len(r.Remaining), output.Seconds(r.ElapsedSeconds))

	if len(r.Nodes) == 0 {
		p := r.Plan
		p.Gates = r.Gates
		showGates(w, p)

		return nil
	}

	return output.WriteTable(w, []output.Column[upgrade.Result]{
		{Header: "NODE", Value: func(n upgrade.Result) string { return cmp.Or(n.Hostname, n.Node) }},
		{Header: "STATUS", State: true, Value: func(n upgrade.Result) string { return string(n.Status) }},
		{Header: "VERSION", Value: func(n upgrade.Result) string { return n.Way() }},
		{Header: "DOWN", Value: func(n upgrade.Result) string { return output.Seconds(n.DowntimeSeconds) }},
		{Header: "TOOK", Value: func(n upgrade.Result) string { return output.Seconds(n.ElapsedSeconds) }},
		{Header: "PODS", Value: func(n upgrade.Result) string { return fmt.Sprint(n.DrainedPods) }},
	}, r.Nodes)
}
