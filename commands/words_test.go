package commands_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// TestWordsFromElsewhere types what users of talosctl, kubectl and gh type: each line is answered with the command line that
// does it here, and that command exists.
func TestWordsFromElsewhere(t *testing.T) {
	t.Parallel()

	for line, want := range map[string]string{
		// talosctl
		"apply-config --insecure -n 10.0.0.1 -f x.yaml": "machineconfig apply", "apply-config -n 10.0.0.1 --file x.yaml --mode=try": "machineconfig apply",
		"patch mc -n 10.0.0.1 -p @x.yaml": "machineconfig patch", "patch machineconfig --patch-file x": "machineconfig patch",
		"-n 10.0.0.1 patch mc": "machineconfig patch", "edit mc -n 10.0.0.1": "machineconfig edit", "edit machineconfig --mode=no-reboot": "machineconfig edit",
		"upgrade -n 10.0.0.1 --image x:v1.14.1": "upgrade node", "upgrade --nodes 10.0.0.1 --image x --preserve --wait": "upgrade node",
		"upgrade-k8s --to 1.36.0": "upgrade kubernetes", "upgrade-k8s": "upgrade kubernetes", "reboot -n 10.0.0.1": "node reboot",
		"--nodes=10.0.0.1 reboot --mode powercycle": "node reboot", "reset": "node reset", "reset --graceful=false --reboot": "node reset",
		"shutdown --force": "node shutdown", "rollback": "node rollback", "wipe disk sdb": "node wipe", "services": "service list",
		"service kubelet restart": "service restart", "service etcd stop -n 10.0.0.1": "service stop", "restart kubelet -k": "service restart",
		"containers": "container list", "containers -k": "container list", "stats --kubernetes": "container stats", "disks --insecure": "system disks",
		"netstat --tcp": "network netstat", "ss -l": "network netstat", "pcap -i eth0": "network capture", "mounts": "system mounts",
		"memory -v": "system memory", "time --check x": "system time", "list /etc": "fs ls", "ls -l /etc": "fs ls", "read /etc/os-release": "fs read",
		"cat /etc/os-release": "fs read", "copy /etc .": "fs cp", "cp -r /etc .": "fs cp", "usage -a /var": "system usage", "du /var": "system usage",
		"interfaces": "network interfaces", "addresses": "network addresses", "routes": "network routes", "etcd member list": "etcd members",
		"etcd member remove 1234": "etcd remove-member", "config use-context prod": "config use", "config context prod": "config use",
		"config current-context": "config info", "config get-contexts": "config contexts", "config nodes 10.0.0.1": "config node",
		"config endpoints 10.0.0.1": "config endpoint", "gen secret": "gen secrets", "ps -e": "processes",
		// kubectl
		"cordon worker-1": "node cordon", "uncordon worker-1": "node uncordon", "drain worker-1 --ignore-daemonsets": "node drain", "dashboard": "top",
		"top nodes": "system memory", "top pods -A": "container stats", "node list": "members", "node ls": "members",
		"describe nodes": "describe", "pods": "container list", "delete node worker-1": "node remove", "exec -it x -- sh": "fs read",
		"explain members": "schema", "cluster-info": "describe", "diff -f x.yaml": "machineconfig diff", "rollout status x": "upgrade status",
		"df": "system mounts", "free -m": "system memory", "tcpdump -i eth0": "network capture", "config view --raw": "config info",
		// gh and others
		"status": "health", "check": "health", "plan": "upgrade plan", "plan --to v1.14.1": "upgrade plan", "auth status": "config info",
		"snapshot db": "etcd snapshot", "backup": "etcd snapshot", "prune --all": "image prune", "pull x:v1": "image pull",
		"iso": "imager build", "contexts": "config contexts", "info": "describe",
	} {
		got := clitest.Run(t, nil, strings.Fields(line)...)
		if got.Code != 2 || !strings.Contains(got.Stderr, "talosmate "+want) {
			t.Errorf("%s: exit code %d, %q", line, got.Code, got.Stderr)
		}

		for said := range strings.Lines(got.Stderr) {
			if hint, is := strings.CutPrefix(said, "hint: "); is && wrong(strings.TrimSpace(hint), false) != "" {
				t.Errorf("%s is answered with %q: %s", line, hint, wrong(strings.TrimSpace(hint), false))
			}
		}

		if cmd, rest, err := newRoot().Find(strings.Fields(want)); err != nil || len(rest) > 0 {
			t.Errorf("%s is answered with %q, of which %q is no command: %v", line, want, rest, cmd.CommandPath())
		}
	}

	for line, want := range map[string]string{
		"top": "talosmate health --watch -o ndjson", "support --output x": "--output-file", "gen config a https://a:6443 -o dir": "--output-dir", "storage disks": "talosmate system disks", "servise": "hint: talosmate service", "service lst": "hint: talosmate service list",
		"upgrade plan --nosuch": "hint: talosmate upgrade plan --help", "node reboot worker-1": "talosmate node reboot -n worker-1",
		"--nosuch": "hint: talosmate --help", "-n worker-1,worker-2 reboot": "hint: talosmate node reboot -n worker-1,worker-2",
		"containers -k -n worker-1": "hint: talosmate container list -n worker-1", "node reboot": "hint: talosmate node reboot -n NODE",
		"node add -n 10.0.0.9 --bogus=1": "hint: talosmate node add --help", "logs kubelet -f -o json": "hint: talosmate logs --follow kubelet -o ndjson",
	} {
		if got := clitest.Run(t, nil, strings.Fields(line)...); got.Code != 2 || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: exit code %d, %q", line, got.Code, got.Stderr)
		}
	}

	if got := clitest.Run(t, nil, "--version"); got.Code != 0 || !strings.HasPrefix(got.Stdout, "talosmate") {
		t.Errorf("--version: exit code %d, %q", got.Code, got.Stdout)
	}
}
