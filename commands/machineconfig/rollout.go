package machineconfig

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/talosmate/talosmate/commands/upgrade"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/configrollout"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdRollout(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("rollout", "Give a cluster its configurations from files, with a way back", nil,
		newCmdRolloutPlan(f), newCmdRolloutApply(f), newCmdRolloutStatus(f))
}

const filesLong = "DIR has a whole configuration for each node: NODE.yaml, ADDRESS.yaml, or CLUSTER-NODE.yaml, as topf and talhelper\n" +
	"write them. A file of another name belongs to the node that its hostname names, or that rollout.yaml in DIR names:\n" +
	"`nodes: {worker-1: FILE}`. Nodes without a file are left as they are."

func addRolloutFlags(fs *cmdutil.Flags, r *configrollout.Request) {
	fs.StringVar(&r.MaxParallel, "max-parallel", "1", "how many workers at once: a number or a percentage; control planes are changed one at a time")
	fs.StringVar(&r.Canary, "canary", "", "the `node` that is changed first")
	fs.Complete("canary", cmdutil.CompleteNodes)
}

func newCmdRolloutPlan(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		r         configrollout.Request
		out       string
		overrides []string
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "plan DIR", Short: "Compare files with nodes, and show what would be done",
		Long: "Compare the configurations in DIR with those of the nodes: the differences path by path with secrets hidden, what\n" +
			"would be tried first because it can cut a node off, what needs a reboot, and what the gates say. Nothing is changed.\n\n" +
			filesLong + "\n\n" +
			"Each difference says who made it, against what was applied last from this machine: the file, the node (somebody\n" +
			"changed it since: applying the file undoes that), both, or upgrade_k8s, which is how an upgrade of Kubernetes changes\n" +
			"images.\n\n" +
			"The exit code is 0 if every node has its configuration, 3 if there are differences, and 5 if a gate refuses. --out\n" +
			"writes the plan for review; `machineconfig rollout apply --plan` refuses it if anything was changed since.",
		Example: "  talosmate machineconfig rollout plan clusterconfig\n" +
			"  talosmate machineconfig rollout plan clusterconfig --out plan.json -o json --query '.result.nodes[] | select(.action != \"unchanged\") | .hostname'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultMembers, Question: true},
		Flags: func(fs *cmdutil.Flags) {
			addRolloutFlags(fs, &r)
			fs.StringVar(&out, "out", "", "write the plan to this `file`")
			fs.StringSliceVar(&overrides, "override", nil, "plan as if this safety gate were passed, by code (repeatable)")
			fs.Complete("override", cmdutil.CompleteGates)
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[configrollout.Plan]("MachineConfigRolloutPlan"), func(c *cmdutil.Call) error {
		c.Overrides = overrides
		if err := c.Overrides.Validate(); err != nil {
			return err
		}

		if err := cmdutil.Writable(out); err != nil {
			return err
		}

		planner, _, err := newPlanner(c, c.Args[0], "plan")
		if err != nil {
			return err
		}

		r.Directory, r.AllNodes = c.Args[0], !c.Selection().Explicit() || c.Selection().All

		plan, err := makePlan(c, planner, r)
		if len(plan.Nodes) == 0 {
			return err
		}

		if err == nil && plan.Work > 0 {
			err = errs.New(errs.Negative, "configurations differ from those of the nodes (nodes: %d)", plan.Work)
		}

		if out != "" {
			err = errors.Join(err, writePlan(plan, out))
		}

		for _, n := range plan.Nodes {
			c.Annotate(cmdutil.GateFindings(n.Gates)...)

			for _, change := range n.Changes {
				c.Annotate(cmdutil.ChangeFinding(change.Change, "machine configuration of "+n.NodeName(), filepath.Join(r.Directory, n.File)))
			}
		}

		return cmdutil.PrintResult(c, plan, err, plan.Hash, showRolloutPlan)
	})
}

func writePlan(plan configrollout.Plan, path string) error {
	var text bytes.Buffer

	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")

	if err := enc.Encode(plan); err != nil {
		return fmt.Errorf("cannot write the plan: %w", err)
	}

	return fsutil.WriteBytes(path, 0o644, text.Bytes())
}

// newPlanner reads the files and connects to the cluster.
func newPlanner(c *cmdutil.Call, dir, verb string) (configrollout.Planner, kube.Holder, error) {
	var (
		files configrollout.Files
		err   error
	)

	if dir != "" {
		if files, err = c.InputDir(dir, "the directory of configurations", ".yaml", ".yml"); err != nil {
			return configrollout.Planner{}, kube.Holder{}, err
		}
	}

	fleet, holder, err := upgrade.Fleet(c, strings.TrimSpace("talosmate machineconfig rollout "+verb+" "+dir))
	if err != nil {
		return configrollout.Planner{}, holder, err
	}

	p := configrollout.Planner{Cluster: fleet, Files: files, Overrides: c.Overrides}
	if state := c.StateDir(); state != "" {
		p.Store.Dir = filepath.Join(state, "machineconfig")
	}

	return p, holder, nil
}

type rolloutOptions struct {
	configrollout.Options

	request                 configrollout.Request
	plan, onFailure, window string
	backups                 string
	planned                 *configrollout.Plan
}

const revert = "revert"

func newCmdRolloutApply(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &rolloutOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "apply [DIR]", Short: "Roll configurations out over nodes, with a way back",
		Long: "Give the nodes the configurations in DIR, or those of a reviewed --plan: the canary, the control planes one at a time\n" +
			"behind the quorum gates, then the workers, --max-parallel at once. Between nodes the cluster must be as healthy as\n" +
			"before. After a failure no further node is begun. One run at a time holds the cluster's lock.\n\n" + filesLong + "\n\n" +
			"A change of links, addresses, routes, DNS, virtual IPs, firewall, KubeSpan or certificates is tried first: Talos\n" +
			"reverts it by its own timer, --try-timeout after it was sent, and by a reboot too. It is made permanent only after the\n" +
			"node was seen for --settle-time by everybody who saw it before: through another endpoint and directly, by the boot that\n" +
			"only this machine has; itself, running with the configuration and healthy; etcd, the members that another node lists,\n" +
			"and Kubernetes. Otherwise nothing is sent: Talos reverts, the run waits for the node and halts, and the exit code is 8.\n" +
			"A node that does not come back is 9. `how` in the document says which it was.\n\n" +
			"Other changes are applied without a reboot and verified the same way; with --on-failure revert a node that is not\n" +
			"healthy with one gets its former configuration back. One that needs a reboot is staged, and the node is drained and\n" +
			"rebooted. Before every change the former configuration is written to --backup-dir.\n\n" +
			"Run the same command again after whatever broke it off: what is done is unchanged, what is on trial is verified and\n" +
			"kept, and what was sent is verified.",
		Example: "  talosmate machineconfig rollout apply clusterconfig -A --canary worker-1 --soak 5m\n" +
			"  talosmate machineconfig rollout apply --plan plan.json --window 'Sat 02:00-05:00' --on-failure revert",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Named: true},
		Flags: func(fs *cmdutil.Flags) {
			addRolloutFlags(fs, &o.request)
			fs.StringVar(&o.plan, "plan", "", "a plan `file`, as `machineconfig rollout plan --out` wrote it")
			fs.Positive(&o.TryTimeout, "try-timeout", 2*time.Minute, "after which Talos reverts what is tried")
			fs.Positive(&o.SettleTime, "settle-time", 10*time.Second, "how long a node must be seen healthy until its configuration is kept")
			fs.Positive(&o.ReadyTimeout, "ready-timeout", 5*time.Minute, "how long a node may take to be healthy, or to be back after Talos reverted")
			fs.Positive(&o.RebootTimeout, "reboot-timeout", 15*time.Minute, "how long a node may take to boot, where a change needs it")
			fs.Positive(&o.DrainTimeout, "drain-timeout", 5*time.Minute, "how long all evictions of a node together may take, where a change needs a reboot")
			fs.Positive(&o.GateTimeout, "gate-timeout", 5*time.Minute, "how long the cluster's health is waited for between nodes")
			fs.DurationVar(&o.Pause, "pause-between", 0, "wait this long between nodes")
			fs.DurationVar(&o.Soak, "soak", 0, "watch the cluster this long after the canary")
			fs.NotNegative("pause-between", "soak")
			fs.Choice(&o.onFailure, "on-failure", "halt", "stop, or give a node that is not healthy its former configuration too; what is tried reverts in any case", "halt", revert)
			fs.StringVar(&o.window, "window", "", `start no node outside this maintenance window, "Sat 02:00-05:00" in local time`)
			fs.StringVar(&o.backups, "backup-dir", "", "the `directory` for the former configurations (default: in the state directory)")
		},
		Check:    o.check,
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[configrollout.Result]("MachineConfigRolloutResult"), o.run)
}

// check settles the flags, and reads the plan.
func (o *rolloutOptions) check(c *cmdutil.Call) (err error) {
	switch {
	case o.plan == "" && len(c.Args) == 0:
		return errs.Usagef("name the directory of the configurations, or a plan with --plan")
	case o.plan == "" && !c.Selection().Explicit():
		return errs.Usagef("no nodes chosen: a command that changes something never picks nodes automatically").
			WithHint("-A for all that have a file, -n for some, or give a plan file with --plan")
	case o.SettleTime >= o.TryTimeout/2:
		return errs.Usagef("--settle-time must be shorter than half of --try-timeout")
	}

	if o.Window, err = rollout.ParseWindow(o.window); err != nil || o.plan == "" {
		return err
	}

	p, err := upgrade.PlanFile(c, o.plan, configrollout.ReadPlan, "max-parallel", "canary")
	o.planned, o.request = &p, p.Request

	return err
}

func (o *rolloutOptions) run(c *cmdutil.Call) error {
	if o.Soak > 0 && o.request.Canary == "" {
		return errs.Usagef("--soak watches a canary: name it with --canary")
	}

	dir := o.request.Directory
	if len(c.Args) == 1 {
		dir = c.Args[0]
	}

	planner, holder, err := newPlanner(c, dir, "apply")
	if err != nil {
		return err
	}

	if o.backups != "" {
		if planner.Store.Dir, err = filepath.Abs(o.backups); err != nil {
			return err
		}
	}

	if planner.Store.Dir == "" {
		return errs.Usagef("there is no state directory for the former configurations").WithHint("name a directory with --backup-dir")
	}

	if !c.DryRun {
		planner.AwaitTrials(c.Context(), o.ReadyTimeout, c.Progress())
	}

	var plan configrollout.Plan

	if o.planned != nil {
		plan, err = planner.Replan(c.Context(), *o.planned, dir)
	} else {
		o.request.Directory, o.request.AllNodes = dir, c.Selection().All
		plan, err = makePlan(c, planner, o.request)
	}

	if err != nil && len(plan.Nodes) == 0 && !plan.Refused {
		return err
	}

	c.ActsOn(plan.Request.Nodes)

	n := &o.Node
	n.Overrides, n.DryRun, n.BeforeChange = c.Overrides, c.DryRun, c.BeginChange
	n.Reason = holder.Reason("machineconfig rollout", "of "+dir)
	o.Revert = o.onFailure == revert

	o.Journal = journal(c, dir)

	res, err := planner.Apply(c.Context(), plan, o.Options, c.Progress())

	return cmdutil.PrintResult(c, res, err, string(res.Status), showRollout)
}

// makePlan plans for the nodes chosen, or for all that have a file.
func makePlan(c *cmdutil.Call, planner configrollout.Planner, r configrollout.Request) (configrollout.Plan, error) {
	if !r.AllNodes {
		targets, err := c.Targets()
		if err != nil {
			return configrollout.Plan{}, err
		}

		r.Nodes = targets.Addresses()
	}

	return planner.Make(c.Context(), r)
}

// journal is the journal of all that this machine does to configurations. The lines of a rollout note its directory.
func journal(c *cmdutil.Call, dir string) (j runbook.Journal) {
	if state := c.StateDir(); state != "" {
		j.Path = filepath.Join(state, "machineconfig.jsonl")
	}

	if abs, err := filepath.Abs(dir); err == nil && dir != "" {
		j.Of = abs
	}

	return j
}

func newCmdRolloutStatus(f *cmdutil.Factory) *cmdutil.Cmd {
	var backups string

	lines := 20

	return cmdutil.New(f, cmdutil.Command{
		Use: "status [DIR]", Short: "Show what a running or broken-off rollout left",
		Long: "Show which nodes have a configuration on trial or staged, what was sent and not verified, how the nodes differ from\n" +
			"what was applied last from this machine, and who holds the cluster's lock. The last lines of the journal explain.\n\n" +
			"With DIR it also shows whether each node runs what DIR holds: in_sync; drifted, if its file is what was applied last and\n" +
			"the node was changed since; differs otherwise; or no_file. from_here in the document is true if the last run on the node sent\n" +
			"that file, and of the journal only the lines of runs with DIR are shown. The exit code is that of the same command\n" +
			"without DIR: `machineconfig rollout plan DIR` is the question whether there are differences.",
		Example: "  talosmate machineconfig rollout status clusterconfig\n" +
			"  talosmate machineconfig rollout status -o json --query '.result.nodes[] | select(.state != \"clean\") | .hostname'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.IntVar(&lines, "journal", lines, "how many of the journal's last lines to show")
			fs.StringVar(&backups, "backup-dir", "", "the `directory` for former configurations that the rollout was given (default: in the state directory)")
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[configrollout.StatusResult]("MachineConfigRolloutStatus"), func(c *cmdutil.Call) error {
		dir := strings.Join(c.Args, "")

		planner, _, err := newPlanner(c, dir, "status")
		if err != nil {
			return err
		}

		planner.Store.Dir = cmp.Or(backups, planner.Store.Dir)

		res, err := planner.Status(c.Context(), dir, journal(c, dir).Tail(lines))
		if err != nil && res.Nodes == nil {
			return err
		}

		return cmdutil.PrintResult(c, res, err, map[bool]string{true: "clean", false: "unclean"}[res.Clean], showRolloutStatus)
	})
}

func showRolloutStatus(w io.Writer, s configrollout.StatusResult) error {
	second := output.Column[configrollout.NodeStatus]{Header: "ROLE", Value: func(n configrollout.NodeStatus) string { return n.Role }}
	if s.Directory != "" {
		second = output.Column[configrollout.NodeStatus]{Header: "SYNC", State: true, Value: func(n configrollout.NodeStatus) string { return n.Sync }}
	}

	applied := func(n configrollout.NodeStatus, text string) string {
		if n.AppliedAt == nil {
			return ""
		}

		return cmp.Or(text, output.Time(*n.AppliedAt))
	}

	return upgrade.ShowLeft(w, s.HasLock, s.Lock, []output.Column[configrollout.NodeStatus]{
		{Header: "NODE", Value: func(n configrollout.NodeStatus) string { return cmp.Or(n.Hostname, n.Node) }},
		second,
		{Header: "STATE", State: true, Value: func(n configrollout.NodeStatus) string { return n.State }},
		{Header: "APPLIED", Value: func(n configrollout.NodeStatus) string { return applied(n, "") }},
		{Header: "DRIFT", Value: func(n configrollout.NodeStatus) string { return applied(n, fmt.Sprint(n.Drift)) }},
		{Header: "MEANING", Value: func(n configrollout.NodeStatus) string { return n.Message }},
	}, s.Nodes, s.Journal)
}

func showRolloutPlan(w io.Writer, p configrollout.Plan) error {
	fmt.Fprintf(w, "%s to %s: %s with something to do, of %d\n", output.Line(p.Request.Directory), output.Line(p.Cluster), output.Count(p.Work, "node"), len(p.Nodes))

	for _, n := range p.Nodes {
		line := fmt.Sprintf("%s (%s, %s): %s", n.NodeName(), n.Role, n.File, n.Action)
		if n.Renamed != "" {
			line += ", renamed to " + n.Renamed
		}

		if n.Error != "" {
			line += ": " + n.Error
		}

		if err := output.Heading(w, output.Line(line)); err != nil {
			return err
		}

		for i, change := range n.Changes {
			if err := writeChange(w, "  ", change.Change); err != nil {
				return err
			}

			// What is said of several parts of a document is said once.
			next := i + 1
			if note := noteOf(change); note != "" && (next == len(n.Changes) || n.Changes[next].Document != change.Document || noteOf(n.Changes[next]) != note) {
				fmt.Fprintln(w, "      "+note)
			}
		}

		if len(n.Drift) > 0 {
			fmt.Fprintf(w, "  drift: %s on the node since it was applied last\n", output.Count(len(n.Drift), "difference"))

			for _, change := range n.Drift {
				fmt.Fprintf(w, "    %s: %s\n", change.By, output.Line(change.Document+" "+change.Path))
			}
		}

		for _, warning := range n.Warnings {
			fmt.Fprintln(w, "  warning: "+output.Line(warning))
		}

		showVerdicts(w, "  ", n.Gates)
	}

	showVerdicts(w, "", p.Gates)

	for _, list := range []struct {
		what  string
		names []string
	}{{"files of no node", p.Unmatched}, {"nodes without a file", p.Without}} {
		if len(list.names) > 0 {
			fmt.Fprintf(w, "%s: %s\n", list.what, output.Line(strings.Join(list.names, ", ")))
		}
	}

	_, err := fmt.Fprintf(w, "plan %.12s\n", p.Hash)

	return err
}

// noteOf says who made a difference and what it can do.
func noteOf(c configrollout.Change) string {
	var notes []string

	switch c.By {
	case configrollout.ByNode, configrollout.ByBoth:
		notes = append(notes, "the node was changed since")
	case configrollout.ByUpgrade:
		notes = append(notes, "an upgrade of Kubernetes changed the node since")
	}

	if c.Risk != "" {
		notes = append(notes, "can cut the node off ("+c.Risk+")")
	}

	return strings.Join(notes, "; ")
}

// verdictLines are the verdicts that do not simply pass.
func verdictLines(indent string, verdicts []gate.Verdict) []string {
	return lists.Map(lists.Filter(verdicts, gate.Verdict.Notable), func(v gate.Verdict) string {
		return indent + output.Line(fmt.Sprintf("%s %s: %s", v.Verdict, v.Gate, v.Message))
	})
}

func showVerdicts(w io.Writer, indent string, verdicts []gate.Verdict) {
	for _, line := range verdictLines(indent, verdicts) {
		fmt.Fprintln(w, line)
	}
}

func showRollout(w io.Writer, r configrollout.Result) error {
	if r.DryRun {
		return showRolloutPlan(w, r.Plan)
	}

	fmt.Fprintf(w, "%s to %s: %s, %s\n", output.Line(r.Plan.Request.Directory), output.Line(r.Plan.Cluster), r.Status, output.Seconds(r.ElapsedSeconds))
	showVerdicts(w, "", r.Gates)

	return output.WriteTable(w, []output.Column[configrollout.Applied]{
		{Header: "NODE", Value: func(n configrollout.Applied) string { return cmp.Or(n.Hostname, n.Node) }},
		{Header: "STATUS", State: true, Value: func(n configrollout.Applied) string { return string(n.Status) }},
		{Header: "HOW", Value: func(n configrollout.Applied) string { return n.How }},
		{Header: "TOOK", Value: func(n configrollout.Applied) string { return output.Seconds(n.ElapsedSeconds) }},
		{Header: "FORMER CONFIGURATION", Wide: true, Value: func(n configrollout.Applied) string { return n.RestoreFile }},
	}, r.Nodes)
}
