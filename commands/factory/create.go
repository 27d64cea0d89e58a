package factory

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
)

func newCmdCreate(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &schematicOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "create", Short: "Register a schematic with the factory",
		Long: "Register a schematic with the Image Factory and print its ID. No cluster is touched, and registering the\n" +
			"same schematic again changes nothing. The factory's ID is checked against the one computed here.",
		Example: "  talosmate factory schematic create -f schematic.yaml\n" +
			"  talosmate factory schematic create --extension iscsi-tools --extension util-linux-tools -o name",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			o.addFlags(fs)
			addFactoryFlag(fs)
		},
	}, cmdutil.ResultOf[factory.Schematic]("FactorySchematic"), func(c *cmdutil.Call) error {
		s, err := o.read(c)
		if err != nil {
			return err
		}

		client, err := clientOf(c)
		if err != nil {
			return err
		}

		result, err := client.Create(c.Context(), s)
		if err != nil && !result.Created {
			return err
		}

		return cmdutil.PrintResult(c, result, err, result.ID, showSchematic(c))
	})
}
