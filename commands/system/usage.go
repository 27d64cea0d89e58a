package system

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdUsage(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		o         talos.UsageOptions
		threshold string
	)

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "usage [PATH]", Aliases: []string{"du", "df"}, Short: "Show what a path holds, or how full file systems are",
		Long: "With PATH, show what it holds on each node, as du does. Without, show how full each mounted file system\n" +
			"is, as df does.",
		Example: "  talosmate system usage -n worker-1\n" +
			"  talosmate system usage /var -n worker-1 --depth 2 --threshold 100MiB",
		Spec: spec(),
		Flags: func(fs *cmdutil.Flags) {
			fs.Int32VarP(&o.Depth, "depth", "d", 0, "show this many levels below PATH")
			fs.NotNegative("depth")
			fs.BoolVarP(&o.Files, "files", "a", false, "show files too, not folders alone")
			fs.StringVarP(&threshold, "threshold", "t", "", "omit what is smaller than this `size`; what is greater, if negative")
		},
		Check: func(c *cmdutil.Call) error {
			if len(c.Args) == 0 && (o.Depth != 0 || o.Files || threshold != "") {
				return errs.Usagef("--depth, --files and --threshold are for a PATH")
			}

			var err error
			if o.Threshold, err = parseSize(threshold); err != nil {
				return errs.Usagef("--threshold wants a size such as 100MiB or -1GiB")
			}

			return nil
		},
	}, "UsageList", cmdutil.NodeList[talos.Usage]{
		Columns: []output.Column[talos.Usage]{
			{Header: "PATH", Value: func(u talos.Usage) string { return u.Path }},
			{Header: "USED", Value: used},
			{Header: "USED%", Value: func(u talos.Usage) string { return ofMount(u, output.Percent(u.UsedRatio)) }},
			{Header: "AVAILABLE", Value: func(u talos.Usage) string { return ofMount(u, output.Bytes(u.AvailableBytes)) }},
			{Header: "SIZE", Value: func(u talos.Usage) string { return ofMount(u, output.Bytes(u.TotalBytes)) }},
			{Header: "FILESYSTEM", Wide: true, Value: func(u talos.Usage) string { return u.Filesystem }},
			{Header: "ERROR", Wide: true, Value: func(u talos.Usage) string { return u.Error }},
		},
		Name:   func(u talos.Usage) string { return u.Path },
		Finish: unmeasured,
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]talos.Usage, error) {
		if len(c.Args) == 0 {
			return n.MountUsage(ctx)
		}

		return n.DiskUsage(ctx, c.Args[0], o)
	})
}

// unmeasured makes an error of every path that a node could not read, so that none goes unseen.
func unmeasured(rows []talos.Usage) ([]talos.Usage, error) {
	exit := errs.Failed

	for _, u := range rows {
		if u.Error == "" {
			exit = errs.Partial
		}
	}

	var all []error

	for _, u := range rows {
		if u.Error != "" {
			e := errs.New(exit, "cannot measure %s on %s: %s", u.Path, u.NodeName(), u.Error).WithKind(errs.KindFailed).OnNode(u.Node)
			e.Hostname = u.Hostname
			all = append(all, e)
		}
	}

	return rows, errors.Join(all...)
}

func used(u talos.Usage) string {
	if u.Error != "" {
		return ""
	}

	return output.Bytes(u.SizeBytes)
}

func ofMount(u talos.Usage, cell string) string {
	if u.Kind != talos.UsageMount {
		return ""
	}

	return cell
}

func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}

	n, err := humanize.ParseBytes(strings.TrimPrefix(s, "-"))
	if err != nil || n > 1<<62 {
		return 0, fmt.Errorf("%q is not a size", s)
	}

	if strings.HasPrefix(s, "-") {
		return -int64(n), nil
	}

	return int64(n), nil
}
