package imager

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdProfiles(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "profiles", Short: "List the imager's profiles of a Talos version",
		Example: "  talosmate imager profiles\n" +
			"  talosmate imager profiles --talos-version v1.14.0 -o json --query '.items[] | select(.secureboot) | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			addVersionFlag(fs)
		},
	}, cmdutil.ListOf[imager.Profile]("ImagerProfileList"), func(c *cmdutil.Call) error {
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
	})
}

func addVersionFlag(fs *cmdutil.Flags) {
	fs.String("talos-version", "", "Talos `version` (default: the one this program was made for)")
	fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
}
