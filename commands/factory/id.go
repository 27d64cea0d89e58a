package factory

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdID(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &schematicOptions{}

	var fromNode, save string

	return cmdutil.New(f, cmdutil.Command{
		Use: "id", Short: "Compute a schematic's ID, or read a node's",
		Long: "Compute the ID of a schematic with the factory's own library, without asking anybody. The schematic is a\n" +
			"file (-f) or is made of flags; without either it is the stock one. With --from-node it is the one that a\n" +
			"node was made from, and --save writes it to a file.",
		Example: "  talosmate factory schematic id --extension qemu-guest-agent --kernel-arg net.ifnames=0\n" +
			"  talosmate factory schematic id --from-node cp-1 --save schematic.yaml",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers()},
		Flags: func(fs *cmdutil.Flags) {
			o.addFlags(fs)
			fs.StringVar(&fromNode, "from-node", "", "read the schematic of this `node`")
			fs.StringVar(&save, "save", "", "write the schematic's YAML to this `file`")
			fs.Complete("from-node", cmdutil.CompleteNodes)
		},
	}, cmdutil.ResultOf[factory.Schematic]("FactorySchematic"), func(c *cmdutil.Call) error {
		result, err := o.identify(c, fromNode)
		if err == nil {
			err = saveSchematic(save, result)
		}

		if err != nil && result.ID == "" {
			return err
		}

		return cmdutil.PrintResult(c, result, err, result.ID, showSchematic(c))
	})
}

func (o *schematicOptions) identify(c *cmdutil.Call, node string) (factory.Schematic, error) {
	if node != "" {
		if o.file != "" || o.given(c) {
			return factory.Schematic{}, errs.Usagef("--from-node reads the whole schematic: omit -f and its parts")
		}

		return readNode(c, node)
	}

	s, err := o.read(c)
	if err != nil {
		return factory.Schematic{}, err
	}

	return factory.Describe(s)
}

func readNode(c *cmdutil.Call, name string) (factory.Schematic, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return factory.Schematic{}, err
	}

	targets, err := cluster.Targets(c.Context(), target.Selection{Nodes: []string{name}}, target.DefaultNone)
	c.Printer.Selection = &output.Selection{Source: targets.Source, Nodes: targets.Addresses()}

	if err != nil {
		return factory.Schematic{}, err
	}

	target := targets.Nodes[0]

	id, text, err := cluster.Node(target).Schematic(c.Context())
	if err != nil {
		return factory.Schematic{}, err
	}

	return factory.FromNode(target.Name(), id, text)
}
