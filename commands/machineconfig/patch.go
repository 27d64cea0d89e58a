package machineconfig

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

func newCmdPatch(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		o     partOptions
		texts []string
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "patch", Short: "Change a part of nodes' machine configuration",
		Long: "Fetch each node's configuration, patch it, show the difference and apply it. Patches are strategic merge\n" +
			"patches (a piece of the configuration; `$patch: delete` removes; several documents in one patch) or\n" +
			"JSON6902, as text or as FILE or @FILE, in the order given. JSON6902 works on configurations of one document only.\n\n" + modesLong,
		Example: "  talosmate machineconfig patch -n worker-1 -p '{\"machine\": {\"sysctls\": {\"vm.swappiness\": \"1\"}}}' --dry-run\n" +
			"  talosmate mc patch --workers -p @sysctls.yaml -p @labels.yaml --mode no-reboot",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins()},
		Flags: func(fs *cmdutil.Flags) {
			o.flags(fs)
			fs.StringArrayVarP(&texts, "patch", "p", nil, "the patch, or FILE or @FILE (repeatable)")
		},
		Check: o.check,
	}, changed(), func(c *cmdutil.Call) error {
		patches, err := loadPatches(c, texts)
		if err != nil {
			return err
		}

		return o.change(c, func(ctx context.Context, n *talos.Node) ([]byte, error) {
			text, err := o.base(ctx, n)
			if err != nil {
				return nil, err
			}

			version, err := n.Version(ctx)
			if err != nil {
				return nil, err
			}

			return patches.Apply(text, release.Newer(version.Tag))
		})
	})
}

func loadPatches(c *cmdutil.Call, texts []string) (machineconfig.Patches, error) {
	if len(texts) == 0 {
		return machineconfig.Patches{}, errs.Usagef("--patch is missing").WithHint("%s", c.Again("-p", "@FILE"))
	}

	bodies := make([][]byte, len(texts))

	for i, text := range texts {
		bodies[i] = []byte(text)

		if file, named := machineconfig.PatchFile(text); named {
			var err error
			if bodies[i], err = c.Input(file, "the patch"); err != nil {
				return machineconfig.Patches{}, err
			}
		}
	}

	return machineconfig.LoadPatches(bodies)
}
