// Package cluster holds the commands about a cluster as a whole: version, members, get, health.
package cluster

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/gendata"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmdVersion makes `talosmate version`.
func NewCmdVersion(f *cmdutil.Factory) *cmdutil.Cmd {
	var w cmdutil.Watch

	return cmdutil.New(f, cmdutil.Command{
		Use: "version", Short: "Show the versions of this program and of the nodes",
		Long: "Show the version of this program and of every node. The first row is this program, with the node\n" +
			"\"client\"; its API column names the Talos release that it was made for.",
		Example: "  talosmate version\n" +
			"  talosmate version -o json --query '.items[] | select(.node != \"client\") | .tag'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers, Insecure: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.Bool("client", false, "this program only; nothing is read or dialled")
			fs.Bool("short", false, "only nodes and version tags")
			w.Add(fs)
			fs.Exclusive("client", "watch")
		},
	}, cmdutil.ListOf[talos.Version]("VersionList"), func(c *cmdutil.Call) error {
		return w.Run(c, func() (cmdutil.Reading, error) { return readVersions(c, f.Build), nil })
	})
}

func readVersions(c *cmdutil.Call, b cmdutil.Build) cmdutil.Reading {
	rows := []talos.Version{client(b)}
	short, _ := c.Cmd.Flags().GetBool("short")
	out := cmdutil.ListReading[talos.Version]{Columns: versionColumns(short), Name: func(v talos.Version) string { return v.Tag }}

	if only, _ := c.Cmd.Flags().GetBool("client"); only {
		out.Rows = rows

		return out
	}

	if c.Printer.Structured() {
		rows = nil // the document's items are nodes; the client is not one
	}

	list := func(nodes []talos.Version, err error) cmdutil.Reading {
		out := out
		out.Rows, out.Err, out.PerNode = append(slices.Clone(rows), nodes...), err, true

		return out
	}

	return list(cmdutil.FetchRowsAs(c, func(ctx context.Context, n *talos.Node) ([]talos.Version, error) {
		v, err := n.Version(ctx)

		return []talos.Version{v}, err
	}, list))
}

func client(b cmdutil.Build) talos.Version {
	return talos.Version{
		NodeRef: talos.NodeRef{Node: "client"}, Tag: b.Version, SHA: b.Commit, Built: b.Date, GoVersion: runtime.Version(),
		OS: runtime.GOOS, Arch: runtime.GOARCH, API: "talos " + gendata.VersionTag,
	}
}

func versionColumns(short bool) []output.Column[talos.Version] {
	cols := []output.Column[talos.Version]{
		{Header: "NODE", Value: talos.Version.NodeName},
		{Header: "VERSION", Value: func(v talos.Version) string { return v.Tag }},
	}

	if short {
		return cols
	}

	return append(cols,
		output.Column[talos.Version]{Header: "API", Value: func(v talos.Version) string { return v.API }},
		output.Column[talos.Version]{Header: "PLATFORM", Value: func(v talos.Version) string { return v.Platform }},
		output.Column[talos.Version]{Header: "OS/ARCH", Value: func(v talos.Version) string { return fmt.Sprintf("%s/%s", v.OS, v.Arch) }},
		output.Column[talos.Version]{Header: "GO", Wide: true, Value: func(v talos.Version) string { return v.GoVersion }},
		output.Column[talos.Version]{Header: "SHA", Wide: true, Value: func(v talos.Version) string { return v.SHA }},
		output.Column[talos.Version]{Header: "BUILT", Wide: true, Value: func(v talos.Version) string { return v.Built }},
	)
}
