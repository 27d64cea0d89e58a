package commands

import (
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
)

// Elsewhere gives a usage error the command line that does here what the user typed as in talosctl, kubectl or gh. Any other
// error is returned as it is.
func Elsewhere(f *cmdutil.Factory, args []string, err error) error {
	if errs.ExitCode(err) != errs.Usage {
		return err
	}

	root := f.Tree()
	words := wordsOf(root, args)

	own, rest, findErr := root.Find(words)
	if findErr != nil {
		own, rest = root, words
	}

	if strings.Contains(err.Error(), "unknown output format") {
		if place := whereToWrite(own); place != "" {
			return errs.Usagef("%w", err).WithHint("-o is the format of what is printed; the place to write to is named with %s", place)
		}
	}

	known := len(words) - len(rest)
	if own.HasSubCommands() {
		known-- // the name of a group may be a command elsewhere
	}

	if len(words) == 3 && words[0] == "service" && slices.Contains([]string{"start", "stop", "restart"}, words[2]) {
		return errs.Usagef("%w", err).WithHint("%s", forNodes(root, args, errs.CommandLine("service", words[2], words[1], "-n", "NODE")))
	}

	table := elsewhere()

	for n := len(words); n > known; n-- {
		phrase := strings.Join(words[:n], " ")

		if here, ok := table[phrase]; ok {
			return errs.Usagef("%w", err).WithHint("%s", forNodes(root, args, "talosmate "+here))
		}

		for _, word := range leftToTalosctl() {
			if phrase == word {
				return errs.Usagef("%w", err).WithHint("talosctl %s", strings.Join(words, " "))
			}
		}
	}

	return err
}

// whereToWrite is the flag for a command's file or directory, which talosctl often calls -o. It is empty where the command
// writes none.
func whereToWrite(cmd *cobra.Command) string {
	for _, name := range []string{"output-file", "output-dir"} {
		if f := cmd.Flags().Lookup(name); f != nil {
			return "--" + name
		}
	}

	return ""
}

// forNodes names the nodes of the user's command line in the line that does it here.
func forNodes(root *cobra.Command, args []string, line string) string {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	nodes := flags.StringSliceP("nodes", "n", nil, "")

	if _ = flags.Parse(args); len(*nodes) == 0 { // what is wrong with the line is known
		return line
	}

	chosen := "-n " + shellquote.Join(strings.Join(*nodes, ","))
	if strings.Contains(line, "-n NODE") {
		return strings.Replace(line, "-n NODE", chosen, 1)
	}

	if cmd, _, err := root.Find(strings.Fields(line)[1:]); err == nil {
		if spec, ok := cmdutil.SpecOf(cmd); ok && spec.Kind == cmdutil.Read && !spec.Offline && !spec.Local {
			return line + " " + chosen
		}
	}

	return line
}

// wordsOf lists a command line's words without flags and the values of those flags that every command has.
func wordsOf(root *cobra.Command, args []string) []string {
	var words []string

	for i := 0; i < len(args); i++ {
		arg := args[i]

		switch {
		case arg == "--":
			return append(words, args[i+1:]...)
		case len(arg) < 2 || arg[0] != '-':
			words = append(words, arg)
		case takesNext(root.PersistentFlags(), arg):
			i++
		}
	}

	return words
}

// takesNext reports whether the value of a global flag is the next word.
func takesNext(flags *pflag.FlagSet, arg string) bool {
	var f *pflag.Flag

	if name, long := strings.CutPrefix(arg, "--"); long {
		f = flags.Lookup(name)
	} else if len(arg) == 2 {
		f = flags.ShorthandLookup(arg[1:])
	}

	return f != nil && f.NoOptDefVal == ""
}

// elsewhere maps command lines of talosctl, kubectl and gh to ours where they differ.
func elsewhere() map[string]string {
	return map[string]string{
		// talosctl
		"apply": "machineconfig apply", "apply-config": "machineconfig apply -n NODE -f FILE",
		"patch": "machineconfig patch -n NODE -p PATCH", "patch mc": "machineconfig patch -n NODE -p PATCH",
		"patch machineconfig": "machineconfig patch -n NODE -p PATCH",
		"edit":                "machineconfig edit -n NODE", "edit mc": "machineconfig edit -n NODE", "edit machineconfig": "machineconfig edit -n NODE",
		"get mc": "machineconfig get", "upgrade": "upgrade node -n NODE --image IMAGE",
		"upgrade-k8s": "upgrade kubernetes --to VERSION", "upgrade-kubernetes": "upgrade kubernetes --to VERSION",
		"containers": "container list", "stats": "container stats", "list": "fs ls PATH", "ls": "fs ls PATH", "read": "fs read PATH",
		"cat": "fs read PATH", "copy": "fs cp PATH DIR", "cp": "fs cp PATH DIR", "usage": "system usage", "du": "system usage",
		"disks": "system disks", "mounts": "system mounts", "df": "system mounts", "memory": "system memory", "free": "system memory",
		"time": "system time", "netstat": "network netstat", "ss": "network netstat", "pcap": "network capture INTERFACE",
		"tcpdump": "network capture INTERFACE", "reboot": "node reboot -n NODE", "reset": "node reset -n NODE",
		"shutdown": "node shutdown -n NODE", "rollback": "node rollback -n NODE", "wipe": "node wipe DEVICE -n NODE",
		"wipe disk": "node wipe DEVICE -n NODE", "restart": "service restart SERVICE -n NODE", "services": "service list",
		"interfaces": "network interfaces", "addresses": "network addresses", "routes": "network routes", "links": "network interfaces",
		"ps": "processes", "etcd member": "etcd members", "etcd member list": "etcd members",
		"etcd member remove": "etcd remove-member MEMBER", "etcd alarm": "etcd alarm list", "disk": "system disks", "storage disks": "system disks",
		"config context": "config use NAME", "config use-context": "config use NAME", "config current-context": "config info",
		"config get-contexts": "config contexts", "config view": "config info", "config nodes": "config node NODE",
		"config endpoints": "config endpoint ENDPOINT", "image ls": "image list", "image default": "upgrade plan --to VERSION",
		"gen secret": "gen secrets", "validate config": "validate -f FILE", "image cache-create": "imager build",
		// kubectl
		"cordon": "node cordon -n NODE", "uncordon": "node uncordon -n NODE", "drain": "node drain -n NODE", "dashboard": "top",
		"top node": "system memory", "top nodes": "system memory", "top pods": "container stats", "node list": "members",
		"node ls": "members", "get node": "members", "get nodes": "members", "describe nodes": "describe",
		"get pods": "container list -k", "get po": "container list -k", "pods": "container list -k", "exec": "fs read PATH",
		"explain": "schema COMMAND", "cluster-info": "describe", "delete": "node remove -n NODE",
		"delete node": "node remove -n NODE", "log": "logs SERVICE", "diff": "machineconfig diff -f FILE", "rollout": "upgrade plan --to VERSION",
		"rollout status": "upgrade status",
		// gh and others
		"plan": "upgrade plan --to VERSION", "must-gather": "support", "sysdump": "support", "status": "health", "check": "health", "info": "describe", "auth status": "config info",
		"snapshot": "etcd snapshot FILE", "backup": "etcd snapshot FILE", "service status": "service list", "version list": "version",
		"prune": "image prune", "pull": "image pull IMAGE",
		"schematic": "factory", "iso": "imager build iso", "contexts": "config contexts",
	}
}

// leftToTalosctl are the commands that talosmate does not replace.
func leftToTalosctl() []string {
	return []string{
		"rotate-ca", "cluster", "inspect", "cgroups", "meta", "debug", "conformance",
		"image-cache", "notarize",
	}
}

// unknownFlag is the usage error for a flag that a command does not have.
func unknownFlag(cmd *cobra.Command, err error) error {
	return errs.Usagef("%w", err).WithHint("%s --help", cmd.CommandPath())
}
