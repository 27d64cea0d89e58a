package upgrade

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdStatus(f *cmdutil.Factory) *cmdutil.Cmd {
	var w cmdutil.Watch

	lines := 20

	return cmdutil.New(f, cmdutil.Command{
		Use: "status", Short: "Show what a running or broken-off upgrade left",
		Long: "Show which nodes have a new version installed that waits for its reboot, which cordons are ours, and who\n" +
			"holds the cluster's lock. The cluster itself tells; the last lines of this machine's journal explain.",
		Example: "  talosmate upgrade status --watch\n" +
			"  talosmate upgrade status -o json --query '.result.nodes[] | select(.state != \"clean\") | .hostname'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.IntVar(&lines, "journal", lines, "how many of the journal's last lines to show")
			w.Add(fs)
		},
	}, cmdutil.ResultOf[rollout.StatusResult]("UpgradeStatus"), func(c *cmdutil.Call) error {
		return w.Run(c, func() (cmdutil.Reading, error) { return readStatus(c, lines) })
	})
}

func readStatus(c *cmdutil.Call, lines int) (cmdutil.Reading, error) {
	res, err := Status(c, lines)
	if err != nil && res.Nodes == nil {
		return nil, err
	}

	return cmdutil.ResultReading[rollout.StatusResult, rollout.NodeStatus]{
		Result: res, Err: err, Human: showStatus, Name: map[bool]string{true: "clean", false: "unclean"}[res.Clean],
		Rows: res.Nodes, Columns: statusColumns(), Key: func(n rollout.NodeStatus) (string, string) { return n.Node, n.Node },
		Answer: lockLine(res),
	}, nil
}

// Status is what `upgrade status` shows, with the last lines of the journal. The nodes are null where nothing could be read.
func Status(c *cmdutil.Call, lines int) (rollout.StatusResult, error) {
	fleet, _, err := Fleet(c, "talosmate upgrade status")
	if err != nil {
		return rollout.StatusResult{}, err
	}

	return rollout.ReadStatus(c.Context(), fleet, notes(c), journal(c).Tail(lines))
}

func showStatus(w io.Writer, s rollout.StatusResult) error {
	return ShowLeft(w, s.HasLock, s.Lock, statusColumns(), s.Nodes, s.Journal)
}

// ShowLeft shows what a run left: who holds the lock, the nodes, and the journal.
func ShowLeft[N any](w io.Writer, known bool, lock kube.LockState, columns []output.Column[N], nodes []N, journal []runbook.Entry) error {
	fmt.Fprintln(w, LockLine(known, lock))

	err := output.WriteTable(w, columns, nodes)

	for _, e := range journal {
		fmt.Fprintf(w, "%s %s %s %s\n", e.Time.Format("2006-01-02 15:04:05"), output.Cell(e.Node), e.Stage, output.Line(e.Message))
	}

	return err
}

func lockLine(s rollout.StatusResult) string { return LockLine(s.HasLock, s.Lock) }

// LockLine says who holds the cluster's lock.
func LockLine(known bool, lock kube.LockState) string {
	switch {
	case !known:
		return "lock: unknown, Kubernetes cannot be asked"
	case lock.Held:
		return fmt.Sprintf("lock: %s since %s (%s)", output.Line(lock.Holder), lock.AcquiredAt.Format(time.RFC3339), output.Line(lock.Command))
	default:
		return "lock: nobody holds it"
	}
}

func statusColumns() []output.Column[rollout.NodeStatus] {
	return []output.Column[rollout.NodeStatus]{
		{Header: "NODE", Value: func(n rollout.NodeStatus) string { return cmp.Or(n.Hostname, n.Node) }},
		{Header: "ROLE", Value: func(n rollout.NodeStatus) string { return n.Role }},
		{Header: "VERSION", Value: func(n rollout.NodeStatus) string { return output.Cell(n.Version) }},
		{Header: "STATE", State: true, Value: func(n rollout.NodeStatus) string { return n.State }},
		{Header: "CORDONED", Value: cordoned},
		{Header: "MEANING", Value: func(n rollout.NodeStatus) string { return n.Message }},
	}
}

func cordoned(n rollout.NodeStatus) string {
	switch {
	case n.OurCordon:
		return "by us"
	case n.Cordoned:
		return "yes"
	default:
		return "no"
	}
}
