package factory

import (
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
)

func newCmdGet(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "get ID", Short: "Say what a schematic holds",
		Long: "Ask the Image Factory for a schematic that was registered, by its ID: its extensions, kernel arguments and\n" +
			"overlay. Factories tell from Image Factory v0.9.0 on.",
		Example: "  talosmate factory schematic get 376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba\n" +
			"  talosmate factory schematic get 376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba --query .result.extensions",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addFactoryFlag(fs)
		},
	}, cmdutil.ResultOf[factory.Schematic]("FactorySchematic"), func(c *cmdutil.Call) error {
		client, err := clientOf(c)
		if err != nil {
			return err
		}

		result, err := client.Schematic(c.Context(), c.Args[0])
		if err != nil {
			return err
		}

		return cmdutil.PrintResult(c, result, nil, result.ID, func(w io.Writer, s factory.Schematic) error {
			_, err := io.WriteString(w, s.YAML)

			return err
		})
	})
}
