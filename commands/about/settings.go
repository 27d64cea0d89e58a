package about

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
)

// NewCmdSettings makes `talosmate settings`.
func NewCmdSettings(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("settings", "Show talosmate's own settings", nil, cmdutil.New(f, cmdutil.Command{
		Use: "view", Short: "Show talosmate's own settings and where each value comes from",
		Long: "Show talosmate's own settings. A flag wins over the environment (TALOSMATE_ and the name in capitals),\n" +
			"that over the configuration file ($TALOSMATE_CONFIG, or talosmate/config.yaml in $XDG_CONFIG_HOME or\n" +
			"~/.config), that over the default.",
		Example: "  talosmate settings view\n" +
			"  TALOSMATE_OUTPUT=json talosmate settings view --query '.items[] | select(.origin == \"env\") | .key'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
	}, cmdutil.ListOf[cmdutil.Setting]("SettingList"), func(c *cmdutil.Call) error {
		return cmdutil.PrintList(c, c.Settings, nil, []output.Column[cmdutil.Setting]{
			{Header: "SETTING", Value: func(s cmdutil.Setting) string { return s.Key }},
			{Header: "VALUE", Value: func(s cmdutil.Setting) string { return s.Value }},
			{Header: "ORIGIN", Value: func(s cmdutil.Setting) string { return s.Origin }},
		}, func(s cmdutil.Setting) string { return s.Key })
	}))
}
