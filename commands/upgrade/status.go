package upgrade

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdStatus(f *cmdutil.Factory) *cmdutil.Cmd {
	lines := 20

	return cmdutil.New(f, cmdutil.Command{
		Use: "status", Short: "Show what a running or broken-off upgrade left",
		Long: "Show which nodes have a new version installed that waits for its reboot, which cordons are ours, and who\n" +
			"holds the cluster's lock. The cluster itself tells; the last lines of this machine's journal explain.",
		Example: "  talosmate upgrade status\n" +
			"  talosmate upgrade status -o json --query '.result.nodes[] | select(.state != \"clean\") | .hostname'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.IntVar(&lines, "journal", lines, "how many of the journal's last lines to show")
		},
	}, cmdutil.ResultOf[rollout.StatusResult]("UpgradeStatus"), func(c *cmdutil.Call) error {
		fleet, _, err := newFleet(c, "talosmate upgrade status")
		if err != nil {
			return err
		}

		res, err := rollout.ReadStatus(c.Context(), fleet, notes(c), journal(c).Tail(lines))

		return cmdutil.PrintResult(c, res, err, map[bool]string{true: "clean", false: "unclean"}[res.Clean], showStatus)
	})
}

func showStatus(w io.Writer, s rollout.StatusResult) error {
	switch {
	case !s.HasLock:
		fmt.Fprintln(w, "lock: unknown, Kubernetes cannot be asked")
	case s.Lock.Held:
		fmt.Fprintf(w, "lock: %s since %s (%s)\n", output.Line(s.Lock.Holder), s.Lock.AcquiredAt.Format(time.RFC3339), output.Line(s.Lock.Command))
	default:
		fmt.Fprintln(w, "lock: nobody holds it")
	}

	err := output.WriteTable(w, []output.Column[rollout.NodeStatus]{
		{Header: "NODE", Value: func(n rollout.NodeStatus) string { return cmp.Or(n.Hostname, n.Node) }},
		{Header: "ROLE", Value: func(n rollout.NodeStatus) string { return n.Role }},
		{Header: "VERSION", Value: func(n rollout.NodeStatus) string { return output.Cell(n.Version) }},
		{Header: "STATE", Value: func(n rollout.NodeStatus) string { return n.State }},
		{Header: "CORDONED", Value: cordoned},
		{Header: "MEANING", Value: func(n rollout.NodeStatus) string { return n.Message }},
	}, s.Nodes, false, true)

	for _, e := range s.Journal {
		fmt.Fprintf(w, "%s %s %s %s\n", e.Time.Format("2006-01-02 15:04:05"), output.Cell(e.Node), e.Stage, output.Line(e.Message))
	}

	return err
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
