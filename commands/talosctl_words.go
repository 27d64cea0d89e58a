package commands

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
)

// unknownWord answers a word that is not a command: talosctl's own words get the exact command here or the
// advice to stay with talosctl, anything else gets "did you mean".
func unknownWord(cmd *cobra.Command, args []string) error {
	if here, ok := talosctlWords()[args[0]]; ok {
		return errs.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()).WithHint("talosctl's %q is `talosmate %s` here", args[0], here)
	}

	for _, word := range leftToTalosctl() {
		if args[0] == word {
			return errs.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()).
				WithHint("%q is left to talosctl: talosctl %s", word, strings.Join(args, " "))
		}
	}

	return cmdutil.UnknownCommand(cmd, args[0])
}

// talosctlWords maps talosctl's commands to ours where the words differ.
func talosctlWords() map[string]string {
	return map[string]string{
		"apply-config": "machineconfig apply", "patch": "machineconfig patch", "edit": "machineconfig edit",
		"containers": "container list", "stats": "container stats", "list": "fs ls", "ls": "fs ls", "read": "fs read",
		"copy": "fs cp", "cp": "fs cp", "usage": "system usage", "du": "system usage", "disks": "system disks",
		"mounts": "system mounts", "memory": "system memory", "time": "system time", "netstat": "network netstat",
		"ss": "network netstat", "pcap": "network capture", "reboot": "node reboot", "reset": "node reset",
		"shutdown": "node shutdown", "rollback": "node rollback", "wipe": "node wipe", "restart": "service restart",
		"services": "service list", "upgrade": "upgrade node",
	}
}

// leftToTalosctl are the commands that talosmate does not replace.
func leftToTalosctl() []string {
	return []string{
		"dashboard", "support", "rotate-ca", "cluster", "inspect", "cgroups", "meta", "debug", "upgrade-k8s", "conformance",
		"image-cache", "notarize",
	}
}

// unknownFlag is the usage error for a flag that a command does not have. talosctl's upgrade takes its flags
// where ours takes a verb.
func unknownFlag(cmd *cobra.Command, err error) error {
	usage := errs.Usagef("%w", err)

	if here, ok := talosctlWords()[cmd.Name()]; ok && cmd.HasSubCommands() {
		return usage.WithHint("talosctl's %q is `talosmate %s` here", cmd.Name(), here)
	}

	return usage.WithHint("%s --help lists the flags", cmd.CommandPath())
}
