package factory

import (
	"slices"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdVersions(f *cmdutil.Factory) *cmdutil.Cmd {
	var stable bool

	return cmdutil.New(f, cmdutil.Command{
		Use: "versions", Short: "List the Talos versions of the factory, newest first",
		Example: "  talosmate factory versions --stable\n" +
			"  talosmate factory versions -o json --query '.items[0].version'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addFactoryFlag(fs)
			fs.BoolVar(&stable, "stable", false, "omit pre-releases")
		},
	}, cmdutil.ListOf[factory.Version]("FactoryVersionList"), func(c *cmdutil.Call) error {
		client, err := clientOf(c)
		if err != nil {
			return err
		}

		list, err := client.Versions(c.Context())
		if err != nil {
			return err
		}

		if stable {
			list = slices.DeleteFunc(list, func(v factory.Version) bool { return v.Prerelease })
		}

		return cmdutil.PrintList(c, list, nil, []output.Column[factory.Version]{
			{Header: "VERSION", Value: func(v factory.Version) string { return v.Version }},
			{Header: "PRERELEASE", Value: func(v factory.Version) string { return output.YesNo(v.Prerelease) }},
		}, func(v factory.Version) string { return v.Version })
	})
}
