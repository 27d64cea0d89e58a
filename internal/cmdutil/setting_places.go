package cmdutil

import "slices"

// place is where a flag's value may come from.
type place int

const (
	anywhere      place = iota // The command line, the environment and the configuration file.
	notInFile                  // The command line and the environment.
	onCommandLine              // The command line alone.
)

func (p place) words() []string { return []string{"flag", "env", "file"}[:3-int(p)] }

// placeRule names flags that are not taken from everywhere.
type placeRule struct {
	why    string
	place  place
	global bool // They are flags of every command.
	change bool // Only the flags of commands that change something.
	flags  []string
}

// selectors are the flags that choose nodes. A change wants them on the command line.
func selectors() []string { return []string{"nodes", "controlplanes", "workers", "all-nodes"} }

// placeRules are in docs/settings.md, with the reasons at more length.
func placeRules() []placeRule {
	return []placeRule{
		{
			"On the command line only, since a confirmation, an override or a connection without a certificate is for one run:",
			onCommandLine, false, false,
			[]string{"cert-fingerprint", "insecure", "override", "yes"},
		},
		{
			"On the command line only, since a setting that was forgotten would show secrets, overwrite files or run programs:",
			onCommandLine, false, false,
			[]string{"after-node", "before-node", "gate-command", "on-end", "overwrite", "show-secrets", "talosctl"},
		},
		{
			"On the command line only, for commands that change something, since they decide what is changed, and how much:",
			onCommandLine, false, true,
			[]string{
				"all-refs", "apply", "dead", "delete-kubernetes-node", "drop-partition", "dry-run", "force", "install-only", "load", "method",
				"reboot", "reboot-only", "recover-from", "recover-skip-hash-check", "system-labels", "update-lock", "upgrade-kubelet", "user-disks",
				"wipe-all", "wipe-mode", "with",
			},
		},
		{
			"On the command line only, for commands that change something, since they switch a protection off:",
			onCommandLine, false, true,
			[]string{"check-images", "drain", "graceful", "pre-pull-images", "wait", "wait-volumes", "without-pods"},
		},
		{
			"On the command line and in the environment, not in the file, since they belong to one cluster and the file is for all:",
			notInFile, true, false,
			[]string{"endpoints", "kube-context", "kubeconfig", "talosconfig"},
		},
		{
			"The same, and only for commands that read: a change takes its nodes from the command line:",
			notInFile, true, false, selectors(),
		},
	}
}

func globalPlace(name string) place {
	return placeOf(func(r placeRule) bool { return r.global && slices.Contains(r.flags, name) })
}

func ownPlace(name string, kind Kind) place {
	return placeOf(func(r placeRule) bool {
		return !r.global && slices.Contains(r.flags, name) && (!r.change || kind != Read)
	})
}

func placeOf(applies func(placeRule) bool) place {
	for _, r := range placeRules() {
		if applies(r) {
			return r.place
		}
	}

	return anywhere
}
