package factory

import (
	"errors"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
)

func newCmdCreate(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &schematicOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "create", Short: "Register a schematic with the factory",
		Long: "Register a schematic with the Image Factory and print its ID. No cluster is touched, and registering the\n" +
			"same schematic again changes nothing. The factory's ID is checked against the one computed here, except where a file has\n" +
			"fields that only the factory knows.",
		Example: "  talosmate factory schematic create -f schematic.yaml\n" +
			"  talosmate factory schematic create --extension iscsi-tools --extension util-linux-tools -o name",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			o.addFlags(fs)
			addFactoryFlag(fs)
		},
	}, cmdutil.ResultOf[factory.Schematic]("FactorySchematic"), func(c *cmdutil.Call) error {
		s, invalid := o.read(c)
		if invalid != nil && !errors.Is(invalid, factory.ErrUnknownFields) {
			return invalid
		}

		client, err := clientOf(c)
		if err != nil {
			return err
		}

		var result factory.Schematic
		if invalid == nil {
			result, err = client.Create(c.Context(), s)
		} else { // the factory may know what this program does not
			result, err = client.CreateText(c.Context(), s, o.text)
		}

		if err != nil && !result.Created {
			return err
		}

		return cmdutil.PrintResult(c, result, err, result.ID, showSchematic(c))
	})
}
