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
	root := newRoot(f)
	root.AddCommand(about.NewTopics()...)

	for _, b := range branches() {
		root.AddCommand(b.make(f))
	}

	f.Tree = func() *cobra.Command { return root }

	return root
}

// RootFor makes what one command line needs of the tree: the branch that its first word names. The others take more time than
// most commands do. Any other line gets the whole tree: one that asks for help or completion, begins with a flag, or uses an
// alias.
func RootFor(f *cmdutil.Factory, args []string) *cobra.Command {
	for _, b := range branches() {
		if len(args) == 0 || b.name != args[0] {
			continue
		}

		root := newRoot(f)
		root.AddCommand(b.make(f))

		f.Tree = func() *cobra.Command { return NewRoot(f) }

		return root
	}

	return NewRoot(f)
}

// newRoot makes the root without its branches.
func newRoot(f *cmdutil.Factory) *cobra.Command {
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

	cmdutil.SetUsage(f, root)

	return root
}

// branch is a command of the root's with all below it.
type branch struct {
	name string
	make func(*cmdutil.Factory) *cobra.Command
}

func branches() []branch {
	return []branch{
		{"commands", about.NewCmdCommands},
		{"schema", about.NewCmdSchema},
		{"settings", about.NewCmdSettings},
		{"bootstrap", cluster.NewCmdBootstrap},
		{"api-resources", cluster.NewCmdAPIResources},
		{"assert", cluster.NewCmdAssert},
		{"describe", cluster.NewCmdDescribe},
		{"get", cluster.NewCmdGet},
		{"health", cluster.NewCmdHealth},
		{"members", cluster.NewCmdMembers},
		{"state", cluster.NewCmdState},
		{"support", cluster.NewCmdSupport},
		{"version", cluster.NewCmdVersion},
		{"wait", cluster.NewCmdWait},
		{"config", config.NewCmd},
		{"etcd", etcd.NewCmd},
		{"image", image.NewCmd},
		{"service", service.NewCmd},
		{"fs", fs.NewCmd},
		{"gen", gen.NewCmd},
		{"validate", validate.NewCmd},
		{"machineconfig", machineconfig.NewCmd},
		{"mcp", mcp.NewCmd},
		{"kubeconfig", kubeconfig.NewCmd},
		{"logs", logs.NewCmd},
		{"dmesg", dmesg.NewCmd},
		{"events", events.NewCmd},
		{"upgrade", upgrade.NewCmd},
		{"container", container.NewCmd},
		{"extension", extension.NewCmd},
		{"factory", factory.NewCmd},
		{"imager", imager.NewCmd},
		{"network", network.NewCmd},
		{"node", node.NewCmd},
		{"processes", process.NewCmd},
		{"storage", storage.NewCmd},
		{"system", system.NewCmd},
		{"top", func(f *cmdutil.Factory) *cobra.Command { return top.NewCmd(f, sources(f)) }},
	}
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
