// Package commands is the command tree: flags, validation and rendering, nothing more. root.go wires it.
package commands

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/commands/about"
	"github.com/talosmate/talosmate/commands/cluster"
	"github.com/talosmate/talosmate/commands/config"
	"github.com/talosmate/talosmate/commands/container"
	"github.com/talosmate/talosmate/commands/dmesg"
	"github.com/talosmate/talosmate/commands/etcd"
	"github.com/talosmate/talosmate/commands/events"
	"github.com/talosmate/talosmate/commands/extension"
	"github.com/talosmate/talosmate/commands/factory"
	"github.com/talosmate/talosmate/commands/fs"
	"github.com/talosmate/talosmate/commands/gen"
	"github.com/talosmate/talosmate/commands/image"
	"github.com/talosmate/talosmate/commands/imager"
	"github.com/talosmate/talosmate/commands/kubeconfig"
	"github.com/talosmate/talosmate/commands/logs"
	"github.com/talosmate/talosmate/commands/machineconfig"
	"github.com/talosmate/talosmate/commands/mcp"
	"github.com/talosmate/talosmate/commands/network"
	"github.com/talosmate/talosmate/commands/node"
	"github.com/talosmate/talosmate/commands/process"
	"github.com/talosmate/talosmate/commands/service"
	"github.com/talosmate/talosmate/commands/storage"
	"github.com/talosmate/talosmate/commands/system"
	"github.com/talosmate/talosmate/commands/top"
	"github.com/talosmate/talosmate/commands/upgrade"
	"github.com/talosmate/talosmate/commands/validate"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/talos"
)

// NewRoot makes the whole tree. It neither reads nor dials.
func NewRoot(f *cmdutil.Factory) *cobra.Command {
	root := &cobra.Command{
		Use:   "talosmate",
		Short: "A companion to talosctl: structured output, honest exit codes, safe orchestration",
		Long: "talosmate works on the same clusters and with the same talosconfig as talosctl. Every command prints\n" +
			"a table for people or one document for programs (-o json), its exit code tells the truth, and nothing\n" +
			"changes a cluster unless the nodes are named.",
		Example: "  talosmate health\n" +
			"  talosmate upgrade node -n worker-1 --image factory.talos.dev/metal-installer/SCHEMATIC:v1.14.1",
		Version:      f.Build.Version,
		SilenceUsage: true, SilenceErrors: true,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cmdutil.CompleteCommands(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}

			return cmdutil.UnknownCommand(cmd, args[0])
		},
	}

	root.SetIn(f.IO.In)
	root.SetOut(f.IO.Out)
	root.SetErr(f.IO.Err)
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(unknownFlag)

	cmdutil.AddGlobalFlags(f, root)

	root.AddCommand(about.NewTopics()...)
	root.AddCommand(
		about.NewCmdCommands(f),
		about.NewCmdSchema(f),
		about.NewCmdSettings(f),
		cluster.NewCmdBootstrap(f),
		cluster.NewCmdAPIResources(f),
		cluster.NewCmdAssert(f),
		cluster.NewCmdDescribe(f),
		cluster.NewCmdGet(f),
		cluster.NewCmdHealth(f),
		cluster.NewCmdMembers(f),
		cluster.NewCmdState(f),
		cluster.NewCmdSupport(f),
		cluster.NewCmdVersion(f),
		cluster.NewCmdWait(f),
		config.NewCmd(f),
		etcd.NewCmd(f),
		image.NewCmd(f),
		service.NewCmd(f),
		fs.NewCmd(f),
		gen.NewCmd(f),
		validate.NewCmd(f),
		machineconfig.NewCmd(f),
		mcp.NewCmd(f),
		kubeconfig.NewCmd(f),
		logs.NewCmd(f),
		dmesg.NewCmd(f),
		events.NewCmd(f),
		upgrade.NewCmd(f),
		container.NewCmd(f),
		extension.NewCmd(f),
		factory.NewCmd(f),
		imager.NewCmd(f),
		network.NewCmd(f),
		node.NewCmd(f),
		process.NewCmd(f),
		storage.NewCmd(f),
		system.NewCmd(f),
		top.NewCmd(f, sources(f)),
	)

	cmdutil.SetUsage(f, root)

	return root
}

// sources gives top what other commands read.
func sources(f *cmdutil.Factory) top.Sources {
	const journal = 20

	return top.Sources{
		Health:  func(c *cmdutil.Call) (health.Result, error) { return cluster.Health(c, f.Now) },
		Etcd:    etcd.Status,
		Upgrade: func(c *cmdutil.Call) (rollout.StatusResult, error) { return upgrade.Status(c, journal) },
		Describe: func(c *cmdutil.Call, t talos.Target, w io.Writer) error {
			return cluster.WriteNode(c, f.Now, t, w)
		},
	}
}
