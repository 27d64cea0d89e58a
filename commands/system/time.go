package system

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdTime(f *cmdutil.Factory) *cmdutil.Cmd {
	var server string

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "time", Short: "Compare each node's clock with a time server's",
		Long: "Have each node ask its own time server, or --server, and compare. The offset is the server's time less\n" +
			"the node's: positive when the node's clock is slow.",
		Example: "  talosmate system time\n" +
			"  talosmate system time -A --server time.cloudflare.com -o json --query '.items[] | .node + \" \" + .offset_seconds'",
		Spec: spec(),
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&server, "server", "", "time server to ask (default: the node's own)")
		},
	}, "ClockList", cmdutil.NodeList[talos.Clock]{
		PerNode: true,
		Columns: []output.Column[talos.Clock]{
			{Header: "SERVER", Value: func(c talos.Clock) string { return c.Server }},
			{Header: "NODE TIME", Value: func(c talos.Clock) string { return output.Time(c.Local) }},
			{Header: "SERVER TIME", Value: func(c talos.Clock) string { return output.Time(c.Remote) }},
			{Header: "OFFSET", Value: func(c talos.Clock) string { return fmt.Sprintf("%+.6fs", c.OffsetSeconds) }},
			{Header: "SYNCED", Value: synced},
		},
		Name:    func(c talos.Clock) string { return c.Node },
		Watched: true, Volatile: []string{"NODE TIME", "SERVER TIME", "OFFSET"},
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Clock, error) {
		c, err := n.Clock(ctx, server)

		return []talos.Clock{c}, err
	})
}

func synced(c talos.Clock) string {
	switch {
	case c.Synced == nil:
		return ""
	case c.SyncDisabled != nil && *c.SyncDisabled:
		return "disabled"
	default:
		return output.YesNo(*c.Synced)
	}
}
