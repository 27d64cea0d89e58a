package node

import (
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// act is the shape of the commands that take nodes down.
type act struct {
	confirm func(targets string) string // Nil for what is not destructive.
	waits   bool                        // It always waits: what comes after the wait belongs to it.
	find    func(*cmdutil.Call, *talos.Cluster)
	o       node.Options
}

const (
	rebootTimeout = 15 * time.Minute
	readyTimeout  = 10 * time.Minute
	silence       = 2 * time.Minute
)

func newCmdAct(f *cmdutil.Factory, d cmdutil.Command, a *act) *cmdutil.Cmd {
	own := d.Flags
	d.Flags = func(fs *cmdutil.Flags) {
		if !a.waits {
			fs.BoolVar(&a.o.Wait, "wait", true, "prove what became of the node")
		}

		fs.Positive(&a.o.RebootTimeout, "reboot-timeout", rebootTimeout, "how long the node may take to boot, or to power off")
		fs.Renamed("boot-timeout", "reboot-timeout")

		if a.o.Action != node.Reboot && a.o.Action != node.Rollback {
			silenceFlag(fs, &a.o)
		}

		fs.Positive(&a.o.ReadyTimeout, "ready-timeout", readyTimeout, "how long the node may take to be healthy after the boot")
		own(fs)
	}

	return cmdutil.New(f, d, cmdutil.ListOf[node.Result]("NodeActionList"), a.run)
}

func silenceFlag(fs *cmdutil.Flags, o *node.Options) {
	fs.Positive(&o.Silence, "silence", silence, "how long the node must not answer until it counts as powered off: longer than its boot")
}

func drainFlags(fs *cmdutil.Flags, o *node.Options) {
	fs.BoolVar(&o.Drain, "drain", false, "cordon and drain the Kubernetes node first")
	fs.Drain(&o.DrainTimeout, &o.Volumes)
}

func (a *act) run(c *cmdutil.Call) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	if a.find != nil {
		a.find(c, cluster)
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	nodes, err := a.nodes(c, cluster, targets.Nodes)
	if err != nil {
		return err
	}

	if err = a.checkWaits(nodes); err != nil {
		return err
	}

	if a.confirm != nil {
		if err = c.ConfirmTargets(a.confirm(c.DescribeTargets())); err != nil {
			return err
		}
	}

	a.o.Overrides, a.o.DryRun, a.o.BeforeChange = c.Overrides, c.DryRun, c.BeginChange
	a.o.Reason = fmt.Sprintf("talosmate %s", a.o.Action)

	parallel := 1
	if c.Cmd.Flags().Changed("concurrency") {
		parallel = cluster.Options.Concurrency
	}

	results, err := node.Sequence(c.Context(), nodes, a.o, parallel, c.Progress())

	return cmdutil.PrintList(c, results, err, actColumns(), node.Result.NodeName)
}

// nodes are the targets in the order in which they are taken down: workers first, since a control plane may be what they
// are reached through.
func (a *act) nodes(c *cmdutil.Call, cluster *talos.Cluster, targets []talos.Target) ([]*probe.Node, error) {
	members, err := cluster.Members(c.Context())
	if err != nil {
		return nil, err
	}

	of := probe.Nodes(c.Context(), cluster, members, c.ConnectKubernetes)

	var workers, controlPlanes []*probe.Node

	for _, t := range targets {
		n := of(t)
		n.Locks = runbook.Notes{Dir: c.StateDir()}

		if n.ControlPlane {
			controlPlanes = append(controlPlanes, n)
		} else {
			workers = append(workers, n)
		}
	}

	return append(workers, controlPlanes...), nil
}

// checkWaits keeps a second control plane up while the first is not back.
func (a *act) checkWaits(nodes []*probe.Node) error {
	controlPlanes := 0

	for _, n := range nodes {
		if n.ControlPlane {
			controlPlanes++
		}
	}

	if controlPlanes > 1 && !a.o.Wait && !a.o.DryRun {
		return errs.Usagef("several control planes are changed one at a time, which needs --wait")
	}

	return nil
}

func actColumns() []output.Column[node.Result] {
	return []output.Column[node.Result]{
		{Header: "NODE", Value: node.Result.NodeName},
		{Header: "ACTION", Value: func(r node.Result) string { return string(r.Action) }},
		{Header: "STATUS", State: true, Value: func(r node.Result) string { return string(r.Status) }},
		{Header: "DOWNTIME", Value: func(r node.Result) string {
			if r.DowntimeSeconds == 0 {
				return ""
			}

			return output.Seconds(r.DowntimeSeconds)
		}},
		{Header: "TOOK", Value: func(r node.Result) string { return output.Seconds(r.ElapsedSeconds) }},
		{Header: "GATES", Value: noteworthy},
		{Header: "ERROR", Value: func(r node.Result) string { return r.Error }},
		{Header: "VERSION", Wide: true, Value: func(r node.Result) string { return r.RunningTag }},
		{Header: "BOOT", Wide: true, Value: func(r node.Result) string { return r.BootIDBefore + " -> " + r.BootIDAfter }},
	}
}

// noteworthy are the gates that did not simply pass.
func noteworthy(r node.Result) string {
	notable := lists.Filter(r.Gates, gate.Verdict.Notable)

	return lists.Join(notable, ", ", func(v gate.Verdict) string { return string(v.Gate) + " " + string(v.Verdict) })
}

func newCmdReboot(f *cmdutil.Factory) *cmdutil.Cmd {
	a := &act{o: node.Options{Action: node.Reboot}}

	return newCmdAct(f, cmdutil.Command{
		Use: "reboot", Short: "Reboot nodes and prove that they came back",
		Long: "Reboot nodes and prove that they came back: a new boot, nothing unmet, the etcd member of a control plane\n" +
			"healthy. Nodes reboot one at a time, workers first (--concurrency N lets N workers reboot at once; control planes\n" +
			"never), and the next control plane waits for etcd. The first node that fails ends the run.\n\n" +
			"The new boot is read from the node over fresh connections and through the endpoints, whichever answers.",
		Example: "  talosmate node reboot -n worker-1 --drain\n" +
			"  talosmate node reboot --controlplanes -o json --query '.items[] | .hostname + \" \" + (.downtime_seconds | tostring)'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
		Flags: func(fs *cmdutil.Flags) {
			drainFlags(fs, &a.o)
			fs.RebootMode(&a.o.Mode)
			fs.Renamed("mode", "reboot-mode")
		},
	}, a)
}

func newCmdShutdown(f *cmdutil.Factory) *cmdutil.Cmd {
	a := &act{o: node.Options{Action: node.Shutdown}}

	return newCmdAct(f, cmdutil.Command{
		Use: "shutdown", Short: "Power nodes off",
		Long: "Power nodes off, one at a time and control planes last, and see that they are off. A node that is a\n" +
			"Kubernetes member cordons and drains itself first, unless --force is given; --drain does it from here, with\n" +
			"its progress shown and the disruption budgets checked, and leaves the node cordoned.",
		Example: "  talosmate node shutdown -n worker-1\n" +
			"  talosmate node shutdown -n worker-1 --force --wait=false",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
		Flags: func(fs *cmdutil.Flags) {
			drainFlags(fs, &a.o)
			fs.BoolVar(&a.o.Force, "force", false, "without the node's own cordon and drain")
		},
	}, a)
}

func newCmdRollback(f *cmdutil.Factory) *cmdutil.Cmd {
	a := &act{o: node.Options{Action: node.Rollback}}

	return newCmdAct(f, cmdutil.Command{
		Use: "rollback", Short: "Boot what nodes ran before their last upgrade",
		Long: "Make the other boot slot the default and reboot into it. The node refuses when that slot is empty. A new\n" +
			"boot on another version or schematic is the proof; a node that comes back on the same one is exit code 9.",
		Example: "  talosmate node rollback -n worker-1\n" +
			"  talosmate node rollback -n worker-1 -o json --query '.items[] | .server_tag + \" -> \" + .running_tag'",
		Spec:  cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins()},
		Flags: func(fs *cmdutil.Flags) { drainFlags(fs, &a.o) },
	}, a)
}
