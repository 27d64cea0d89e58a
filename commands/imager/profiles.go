package imager

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdProfiles(f *cmdutil.Factory) *cobra.Command {
	spec := cmdutil.Spec{Kind: cmdutil.Read, Offline: true, Schema: "ImagerProfileList", Document: output.List[imager.Profile]{}}
	cmd := &cobra.Command{
		Use: "profiles", Short: "List the imager's profiles of a Talos version",
		Example: "  talosmate imager profiles\n" +
			"  talosmate imager profiles --talos-version v1.14.0 -o json --query '.items[] | select(.secureboot) | .name'",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			b, err := release(c)
			if err != nil {
				return err
			}

			v, err := imager.ParseVersion(b.TalosVersion)
			if err != nil {
				return err
			}

			return cmdutil.PrintList(c, imager.Profiles(v), nil, []output.Column[imager.Profile]{
				{Header: "PROFILE", Value: func(p imager.Profile) string { return p.Name }},
				{Header: "KIND", Value: func(p imager.Profile) string { return string(p.Kind) }},
				{Header: "PLATFORM", Value: func(p imager.Profile) string { return p.Platform }},
				{Header: "SECURE BOOT", Value: func(p imager.Profile) string { return output.YesNo(p.SecureBoot) }},
				{Header: "FORMAT", Value: func(p imager.Profile) string { return p.Format }},
				{Header: "SINCE", Wide: true, Value: func(p imager.Profile) string { return p.Since }},
			}, func(p imager.Profile) string { return p.Name })
		}),
	}

	f.Declare(cmd, spec)
	addVersionFlag(f, cmd)

	return cmd
}

func addVersionFlag(f *cmdutil.Factory, cmd *cobra.Command) {
	cmd.Flags().String("talos-version", "", "Talos `version` (default: the one this program was made for)")
	cmdutil.RegisterFlagCompletion(f, cmd, "talos-version", nil)
}
