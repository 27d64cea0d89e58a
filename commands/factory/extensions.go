package factory

import (
	"github.com/siderolabs/talos/pkg/machinery/gendata"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdExtensions(f *cmdutil.Factory) *cmdutil.Cmd {
	var version string

	return cmdutil.New(f, cmdutil.Command{
		Use: "extensions", Short: "List the official extensions for a Talos version",
		Example: "  talosmate factory extensions --talos-version v1.14.1\n" +
			"  talosmate factory extensions -o json --query '.items[] | select(.name == \"*nvidia*\") | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addFactoryFlag(fs)
			fs.StringVar(&version, "talos-version", gendata.VersionTag, "Talos `version`")
			fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
		},
	}, cmdutil.ListOf[factory.Extension]("FactoryExtensionList"), func(c *cmdutil.Call) error {
		client, err := clientOf(c)
		if err != nil {
			return err
		}

		list, err := client.Extensions(c.Context(), version)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, list, nil, []output.Column[factory.Extension]{
			{Header: "EXTENSION", Value: func(e factory.Extension) string { return e.Name }},
			{Header: "VERSION", Value: func(e factory.Extension) string { return e.Tag }},
			{Header: "TIER", Value: func(e factory.Extension) string { return e.Tier }},
			{Header: "AUTHOR", Wide: true, Value: func(e factory.Extension) string { return e.Author }},
			{Header: "DESCRIPTION", Wide: true, Value: func(e factory.Extension) string { return e.Description }},
			{Header: "IMAGE", Wide: true, Value: func(e factory.Extension) string { return e.Image + "@" + e.Digest }},
		}, func(e factory.Extension) string { return e.Name })
	})
}
