package factory

import (
	"runtime"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/gendata"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdURL(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &schematicOptions{}

	var want factory.Want

	return cmdutil.New(f, cmdutil.Command{
		Use: "url [KIND]", Short: "Show the URLs of a schematic's assets",
		Long: "Show where the factory serves the ISO, disk image, UKI, kernel, initramfs, installer and PXE script of a\n" +
			"schematic, for a Talos version, platform and architecture. Nothing is asked; a schematic that the factory\n" +
			"has never seen is registered with `factory schematic create`.",
		Example: "  talosmate factory url --extension qemu-guest-agent --talos-version v1.14.1\n" +
			"  talosmate factory url installer --schematic $ID --secureboot -o name",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			o.addFlags(fs)
			addFactoryFlag(fs)
			fs.StringVar(&want.Schematic, "schematic", "", "the schematic's `ID`")
			fs.StringVar(&want.Version, "talos-version", gendata.VersionTag, "Talos `version`")
			fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
			fs.StringVar(&want.Platform, "platform", "metal", "Talos `platform`")
			fs.Choice(&want.Arch, "arch", defaultArch(), "architecture", "amd64", "arm64")
			fs.BoolVar(&want.SecureBoot, "secureboot", false, "the secure boot variants")
			fs.Words("platform", factory.Platforms(gendata.VersionTag)...)
		},
		Complete: cmdutil.Words(factory.AssetKinds()...),
	}, cmdutil.ListOf[factory.Asset]("FactoryAssetList"), func(c *cmdutil.Call) error {
		assets, err := o.assets(c, want)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, assets, nil, []output.Column[factory.Asset]{
			{Header: "KIND", Value: func(a factory.Asset) string { return a.Kind }},
			{Header: "NAME", Wide: true, Value: func(a factory.Asset) string { return a.Name }},
			{Header: "URL", Value: func(a factory.Asset) string { return a.URL }},
		}, func(a factory.Asset) string { return a.URL })
	})
}

func defaultArch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}

	return "amd64"
}

func (o *schematicOptions) assets(c *cmdutil.Call, want factory.Want) ([]factory.Asset, error) {
	want.Factory, _ = c.Cmd.Flags().GetString("factory")

	if o.file != "" || o.given(c) {
		if want.Schematic != "" {
			return nil, errs.Usagef("name the schematic by --schematic, by a file or by its parts, not twice")
		}

		s, err := o.read(c)
		if err != nil {
			return nil, err
		}

		if want.Schematic, err = s.ID(); err != nil {
			return nil, err
		}
	}

	list, err := factory.Assets(want)
	if err != nil || len(c.Args) == 0 {
		return list, err
	}

	list = slices.DeleteFunc(list, func(a factory.Asset) bool { return a.Kind != c.Args[0] })
	if len(list) == 0 {
		return nil, errs.Usagef("there is no asset of the kind %q", c.Args[0]).WithHint("kinds: %v", factory.AssetKinds())
	}

	return list, nil
}
