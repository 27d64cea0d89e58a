package about

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"

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
		Use: "view [KEY…]", Short: "Show the settings and where each value comes from",
		Long: "Show the settings that every command has, those of single commands that are set, and the aliases. `talosmate help\n" +
			"settings` says where settings come from. With keys, only those are shown, set or not.",
		Example: "  talosmate settings view\n" +
			"  TALOSMATE_OUTPUT=json talosmate settings view --query '.items[] | select(.origin == \"env\") | .key'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&all, "all", false, "the settings of all commands, set or not")
		},
		Complete: func(_ context.Context, c *cmdutil.Call, args []string) []string {
			settings, err := c.AllSettings(true)
			if err != nil {
				return nil
			}

			keys := lists.Map(settings, cmdutil.Setting.SettingName)

			return lists.Filter(keys, func(key string) bool { return !slices.Contains(args, key) })
		},
	}, cmdutil.ListOf[cmdutil.Setting]("SettingList"), func(c *cmdutil.Call) error {
		settings, err := c.AllSettings(all || len(c.Args) > 0)
		if err != nil {
			return err
		}

		if len(c.Args) > 0 {
			if settings, err = pick(settings, c.Args); err != nil {
				return err
			}
		}

		return cmdutil.PrintList(c, settings, nil, cmdutil.SettingColumns(), cmdutil.Setting.SettingName)
	})
}

// pick keeps the settings with the keys, each of which must exist.
func pick(settings []cmdutil.Setting, keys []string) ([]cmdutil.Setting, error) {
	for _, key := range keys {
		if _, ok := lists.Find(settings, func(s cmdutil.Setting) bool { return s.Key == key }); !ok {
			return nil, errs.Usagef("unknown setting %q", key).WithHint("talosmate settings view --all")
		}
	}

	return lists.Filter(settings, func(s cmdutil.Setting) bool { return slices.Contains(keys, s.Key) }), nil
}
