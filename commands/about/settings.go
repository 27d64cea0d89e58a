package about

import (
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
)

// NewCmdSettings makes `talosmate settings`.
func NewCmdSettings(f *cmdutil.Factory) *cmdutil.Cmd {
	var places strings.Builder

	cmdutil.WritePlaces(&places)

	group := cmdutil.Group("settings", "Show talosmate's own settings", nil, newCmdSettingsView(f))
	group.Long = "A flag wins over the environment, that over the configuration file ($TALOSMATE_CONFIG, or\n" +
		"talosmate/config.yaml in $XDG_CONFIG_HOME or ~/.config), that over the default. A flag that every command has is a\n" +
		"key and a variable of its name: output and TALOSMATE_OUTPUT. Those of other flags begin with the command:\n" +
		"upgrade.apply.max-parallel and TALOSMATE_UPGRADE_APPLY_MAX_PARALLEL. In the file, keys may be nested.\n\n" +
		"The file may name command lines of yours below aliases: NAME: COMMAND LINE. What follows the alias on the command\n" +
		"line is appended. An alias runs no shell, and cannot have the name of a command.\n\n" +
		"Not every flag is a setting:\n\n" + places.String()

	return group
}

func newCmdSettingsView(f *cmdutil.Factory) *cmdutil.Cmd {
	var all bool

	return cmdutil.New(f, cmdutil.Command{
		Use: "view", Short: "Show talosmate's own settings and where each value comes from",
		Long: "Show the settings that every command has, those of single commands that are set, and the aliases. `talosmate help\n" +
			"settings` says where settings come from.",
		Example: "  talosmate settings view\n" +
			"  TALOSMATE_OUTPUT=json talosmate settings view --query '.items[] | select(.origin == \"env\") | .key'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&all, "all", false, "the settings of all commands, set or not")
		},
	}, cmdutil.ListOf[cmdutil.Setting]("SettingList"), func(c *cmdutil.Call) error {
		settings, err := c.AllSettings(all)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, settings, nil, cmdutil.SettingColumns(), cmdutil.Setting.SettingName)
	})
}
