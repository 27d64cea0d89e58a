package factory

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdVersions(f *cmdutil.Factory) *cobra.Command {
	var stable bool

	spec := cmdutil.Spec{Kind: cmdutil.Read, Local: true, Schema: "FactoryVersionList", Document: output.List[factory.Version]{}}
	cmd := &cobra.Command{
		Use: "versions", Short: "List the Talos versions that the factory builds, the newest first",
		Example: "  talosmate factory versions --stable\n" +
			"  talosmate factory versions -o json --query '.items[0].version'",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
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
		}),
	}

	f.Declare(cmd, spec)
	addFactoryFlag(f, cmd)
	cmd.Flags().BoolVar(&stable, "stable", false, "leave pre-releases away")

	return cmd
}
