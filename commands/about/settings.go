package about

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
)

// NewCmdSettings makes `talosmate settings`.
func NewCmdSettings(f *cmdutil.Factory) *cobra.Command {
	spec := cmdutil.Spec{Kind: cmdutil.Read, Offline: true, Schema: "SettingList", Document: output.List[cmdutil.Setting]{}}

	view := &cobra.Command{
		Use: "view", Short: "Show talosmate's own settings and where each value comes from",
		Long: "Show talosmate's own settings. A flag wins over the environment (TALOSMATE_ and the name in capitals),\n" +
			"that over the configuration file ($TALOSMATE_CONFIG, or talosmate/config.yaml in $XDG_CONFIG_HOME or\n" +
			"~/.config), that over the default.",
		Example: "  talosmate settings view\n" +
			"  TALOSMATE_OUTPUT=json talosmate settings view --query '.items[] | select(.origin == \"env\") | .key'",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			return cmdutil.PrintList(c, c.Settings, nil, []output.Column[cmdutil.Setting]{
				{Header: "SETTING", Value: func(s cmdutil.Setting) string { return s.Key }},
				{Header: "VALUE", Value: func(s cmdutil.Setting) string { return s.Value }},
				{Header: "ORIGIN", Value: func(s cmdutil.Setting) string { return s.Origin }},
			}, func(s cmdutil.Setting) string { return s.Key })
		}),
	}

	f.Declare(view, spec)

	return cmdutil.Group("settings", "Look at talosmate's own settings", nil, view)
}
