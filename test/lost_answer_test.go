package test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// lostAnswer is one change whose request is carried out and never answered.
type lostAnswer struct {
	method string      // The call that is held.
	node   string      // The node that holds it.
	args   string      // The command line, with short deadlines.
	codes  []errs.Code // How it may end.
	setup  func(*fleet)
}

// lostAnswers are the changes of the command tree by lab; the rows of one lab run in order, each on the state that the
// previous ones left.
func lostAnswers() map[string][]lostAnswer {
	done, open := []errs.Code{errs.OK}, []errs.Code{errs.Unknown}
	seen := []errs.Code{errs.OK, errs.Unknown} // Whether the state shows it depends on timing.

	return map[string][]lostAnswer{
		"services": {
			{method: "ServiceRestart", node: "worker-1", args: "service restart kubelet -n worker-1 --wait-timeout 10s", codes: seen},
			{method: "ServiceStop", node: "worker-1", args: "service stop ext-iscsid -n worker-1 --wait-timeout 10s", codes: done},
			{method: "ServiceStart", node: "worker-1", args: "service start ext-iscsid -n worker-1 --wait-timeout 10s", codes: done},
			{method: "ImageService/Pull", node: "worker-1", args: "image pull docker.io/library/nginx:1.27 -n worker-1 --pull-timeout 3s", codes: done},
			{method: "ImageService/Remove", node: "worker-1", args: "image remove docker.io/library/nginx:1.27 -n worker-1 --timeout 4s", codes: done},
			{method: "ImageService/Remove", node: "worker-1", args: "image prune -n worker-1 --apply --timeout 4s --older-than 0s", codes: done},
			{method: "BlockDeviceWipe", node: "worker-1", args: "node wipe sdb -n worker-1 --yes --wait-timeout 3s", codes: seen},
			{method: "GenerateClientConfiguration", node: "cp-1", args: "config new reader.yaml --roles os:reader -n cp-1 --timeout 4s", codes: open},
			{method: "ApplyConfiguration:1", node: "worker-1", args: "machineconfig patch -n worker-1 -p @sysctl.yaml --reboot-timeout 3s", codes: done},
			{method: "ApplyConfiguration:1", node: "worker-2", args: "machineconfig apply -n worker-2 -f worker-2.yaml --reboot-timeout 3s", codes: done, setup: func(f *fleet) {
				f.write("worker-2.yaml", strings.Replace(f.output("machineconfig", "get", "-n", "worker-2", "--show-secrets"), "machine:\n", "machine:\n    sysctls:\n        vm.swappiness: \"1\"\n", 1))
			}},
			{method: "ApplyConfiguration:1", node: "worker-2", args: "machineconfig edit -n worker-2 --reboot-timeout 3s", codes: done},
			{method: "Reboot", node: "worker-1", args: "node reboot -n worker-1 --reboot-timeout 8s", codes: done},
			{method: "ImageService/Pull", node: "worker-1", args: "upgrade node -n worker-1 --image ghcr.io/siderolabs/installer:v1.13.9 --override TM133 --pull-timeout 3s", codes: []errs.Code{errs.Failed, errs.Unknown}},
			{method: "LifecycleService/Upgrade", node: "worker-1", args: "upgrade node -n worker-1 --image ghcr.io/siderolabs/installer:v1.13.9 --override TM133 --install-timeout 4s", codes: done},
			{method: "Reboot", node: "worker-2", args: "upgrade apply -n worker-2 --to v1.13.9 --check-images=false --reboot-timeout 10s", codes: done},
			{method: "Rollback", node: "worker-2", args: "node rollback -n worker-2 --reboot-timeout 8s", codes: done},
			{method: "Shutdown", node: "worker-1", args: "node shutdown -n worker-1 --force --silence 5s --reboot-timeout 60s", codes: seen},
			{method: "Reset", node: "worker-2", args: "node reset -n worker-2 --yes --reboot --reboot-timeout 8s", codes: done},
		},
		"documents": {
			{method: "ApplyConfiguration:1", node: "worker-1", args: "machineconfig migrate -n worker-1 --apply --ready-timeout 5s --settle-time 1s", codes: done},
			{method: "ApplyConfiguration:2", node: "worker-1", args: "machineconfig rollout apply rollout -n worker-1 --try-timeout 10s --ready-timeout 10s --reboot-timeout 3s --settle-time 1s", codes: done, setup: func(f *fleet) {
				f.write("rollout/worker-1.yaml", f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets")+"---\napiVersion: v1alpha1\nkind: SysctlConfig\nparams:\n    vm.swappiness: \"1\"\n")
			}},
		},
		"etcd": {
			{method: "EtcdDefragment", node: "cp-2", args: "etcd defrag -n cp-2 --member-timeout 2s --wait-timeout 2s", codes: seen},
			{method: "EtcdDefragment", node: "cp-2", args: "etcd defrag -n cp-2 --member-timeout 2s --wait-timeout 2s", codes: open},
			{method: "EtcdAlarmDisarm", node: "*", args: "etcd alarm disarm -n cp-1 --override TM160 --request-timeout 3s --wait-timeout 15s", codes: done, setup: func(f *fleet) {
				f.ctl("etcd", "alarm", "cp-1", "nospace")
			}},
			{method: "EtcdForfeitLeadership", node: "cp-1", args: "etcd forfeit-leadership -n cp-1 --request-timeout 3s --wait-timeout 15s", codes: done, setup: func(f *fleet) { f.ctl("etcd", "move-leader", "cp-1") }},
			{method: "EtcdDowngradeEnable", node: "*", args: "etcd downgrade enable 3.5 -n cp-1 --request-timeout 3s --wait-timeout 10s", codes: done},
			{method: "EtcdDowngradeCancel", node: "*", args: "etcd downgrade cancel -n cp-1 --request-timeout 3s --wait-timeout 10s", codes: done},
			{method: "EtcdRemoveMemberByID", node: "*", args: "etcd remove-member cp-3 --yes --override TM122 --request-timeout 3s --wait-timeout 30s", codes: seen},
		},
		"leave": {
			{method: "EtcdLeaveCluster", node: "cp-3", args: "etcd leave -n cp-3 --yes --request-timeout 3s --wait-timeout 30s", codes: seen},
			{method: "ApplyConfiguration:1", node: "new-1", args: "node add -n NEW_1 -f new-1.yaml --reboot-timeout 15s", codes: done, setup: func(f *fleet) {
				f.write("new-1.yaml", strings.ReplaceAll(f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets"), "worker-1", "new-1"))
			}},
			{method: "ApplyConfiguration", node: "new-2", args: "machineconfig apply --insecure -n NEW_2 -f new-2.yaml --reboot-timeout 15s", codes: done, setup: func(f *fleet) {
				f.write("new-2.yaml", strings.ReplaceAll(f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets"), "worker-1", "new-2"))
			}},
			{method: "Reset", node: "worker-1", args: "node remove -n worker-1 --yes --silence 5s --reboot-timeout 60s", codes: seen},
		},
		"layers": {
			{method: "LVMService/LogicalVolumeRemove", node: "worker-1", args: "storage remove lv data/scratch -n worker-1 --yes --wait-timeout 5s", codes: done},
			{method: "LVMService/PhysicalVolumeRemove", node: "worker-1", args: "storage remove pv sdd -n worker-1 --yes --wait-timeout 5s", codes: done},
			{method: "MDService/Destroy", node: "worker-1", args: "storage remove raid mirror -n worker-1 --yes --wait-timeout 5s", codes: done},
		},
		"bootstrap": {
			{method: "Bootstrap", node: "cp-1", args: "bootstrap -n cp-1 --yes --wait-timeout 20s", codes: done},
			{method: "EtcdRemoveMemberByID", node: "*", args: "node replace cp-3 --with NEW_1 -f new-1.yaml --yes --reboot-timeout 20s", codes: done, setup: func(f *fleet) {
				f.output("wait", "--for", "etcd=healthy", "--controlplanes", "--wait-timeout", "60s")
				f.write("new-1.yaml", strings.ReplaceAll(f.output("machineconfig", "get", "-n", "cp-1", "--show-secrets"), "cp-1", "new-1"))
				f.ctl("power", "cp-3", "off")
				awaitLeader(f.t, filepath.Join(f.dir, "lab"))
			}},
		},
	}
}

// elsewhere are the changes that send nothing to Talos, and the tests of their lost answers.
func elsewhere() map[string]string {
	return map[string]string{
		"config add": "local", "config endpoint": "local", "config merge": "local", "config node": "local", "config remove": "local", "config use": "local",
		"imager build": "local",
		"node cordon":  "ops/drain, TestScheduleLost", "node drain": "ops/drain, TestScheduleLost", "node uncordon": "ops/drain, TestScheduleLost",
		"upgrade kubernetes": "talosctl sends what it sends",
	}
}

// TestLostAnswers holds the answer of every change: it is carried out at most once, and no change ends with an exit
// code that means that nothing was sent.
func TestLostAnswers(t *testing.T) {
	t.Parallel()

	covered := map[string]bool{}
	labs := map[string][]string{
		"services": {"--talos-version", "v1.13.8", "--schematic", "iscsi-tools"}, "documents": {"--config-form", "v1alpha1", "--workers", "1"}, "etcd": {"--workers", "0"},
		"leave": {"--maintenance", "2", "--workers", "1"}, "layers": {"--lvm", "--controlplanes", "1", "--workers", "1"}, "bootstrap": {"--unbootstrapped", "--maintenance", "1", "--workers", "0"},
	}

	for lab, rows := range lostAnswers() {
		for _, row := range rows {
			words := strings.Fields(row.args)
			for n := range 4 {
				covered[strings.Join(words[:min(n, len(words))], " ")] = true
			}
		}

		t.Run(lab, func(t *testing.T) {
			t.Parallel()

			f := startLab(t, labs[lab]...)
			f.write("sysctl.yaml", "machine:\n  sysctls:\n    vm.swappiness: \"7\"\n")
			f.env = append(f.env, "EDITOR="+f.write("edit.sh", "#!/bin/sh\nsed -i 's/vm.swappiness: .*/vm.swappiness: \"3\"/' \"$1\"\n"))

			for _, row := range rows {
				f.lose(row)
			}
		})
	}

	for _, command := range changesOfTheTree(t) {
		if !covered[command] && elsewhere()[command] == "" {
			t.Errorf("`talosmate %s` changes something, and nothing tests it without an answer", command)
		}
	}
}

// lose runs one change whose answer is held.
func (f *fleet) lose(row lostAnswer) {
	f.t.Helper()

	if row.setup != nil {
		row.setup(f)
	}

	nodes := []string{row.node}
	if row.node == "*" {
		nodes = []string{"cp-1", "cp-2", "cp-3"}
	}

	for _, n := range nodes {
		f.ctl("fault", n, "hold-answer="+row.method)
	}

	f.ctl("requests", "--reset")

	machines, err := f.nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}

	args := row.args
	for _, n := range machines {
		args = strings.ReplaceAll(args, strings.ToUpper(strings.ReplaceAll(n.Name, "-", "_")), n.Address)
	}

	cmd := f.talosmate(append(strings.Fields(args), "-o", "json")...)

	var stderr strings.Builder

	cmd.Stderr = &stderr
	stdout, err := cmd.Output()

	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}

	for _, n := range nodes {
		f.ctl("clear", n)
	}

	code := errs.Code(cmd.ProcessState.ExitCode())
	if !slices.Contains(row.codes, code) {
		f.t.Errorf("%s: exit code %d, want one of %v\n%s\n%s", row.args, code, row.codes, stdout, stderr.String())
	}

	if !json.Valid(stdout) {
		f.t.Errorf("%s: no document: %q", row.args, stdout)
	}

	method, skip, _ := strings.Cut(row.method, ":")
	dryRuns, _ := strconv.Atoi(skip) //nolint:errcheck // none pass first where there is no number
	limit := 1 + dryRuns

	n := f.requests(method).Executed
	if prune := strings.HasPrefix(row.args, "image prune"); n == 0 || n > limit && !prune {
		f.t.Errorf("%s: executed %d times", row.args, n)
	}
}

// changesOfTheTree lists the commands that change something.
func changesOfTheTree(t *testing.T) []string {
	t.Helper()

	return commandsOfTheTree(t, func(kind string) bool { return kind != "read" })
}

// readsOfTheTree lists the others.
func readsOfTheTree(t *testing.T) []string {
	t.Helper()

	return commandsOfTheTree(t, func(kind string) bool { return kind == "read" })
}

func commandsOfTheTree(t *testing.T, wanted func(kind string) bool) []string {
	t.Helper()

	f := &fleet{t: t, bin: os.Getenv("TALOSMATE_TEST_BIN"), dir: t.TempDir()}

	var doc struct {
		Items []struct{ Path, Kind string }
	}

	if err := json.Unmarshal([]byte(f.output("commands", "-o", "json")), &doc); err != nil {
		t.Fatal(err)
	}

	var out []string

	for _, c := range doc.Items {
		if wanted(c.Kind) {
			out = append(out, strings.TrimPrefix(c.Path, "talosmate "))
		}
	}

	return out
}

// TestTwoRuns checks that two runs on one node at a time send one request.
func TestTwoRuns(t *testing.T) {
	t.Parallel()

	f := startLab(t, "--workers", "1", "--controlplanes", "1")
	f.ctl("fault", "worker-1", "hold-request=Reboot")

	first := f.talosmate("node", "reboot", "-n", "worker-1", "--reboot-timeout", "30s")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}

	f.until("the first request", func(context.Context) bool { return f.requests("Reboot").Received == 1 })

	second := f.talosmate("node", "reboot", "-n", "worker-1", "-o", "json", "--query", ".errors[].gate")
	if out, err := second.Output(); second.ProcessState.ExitCode() != int(errs.Refused) {
		t.Errorf("the second run: %v, %s", err, out)
	}

	f.ctl("clear", "worker-1")

	if err := first.Wait(); err != nil {
		t.Errorf("the first run: %v", err)
	}

	if n := f.requests("Reboot"); n.Executed != 1 || n.Received != 1 {
		t.Errorf("%+v", n)
	}
}

// requests counts a call.
func (f *fleet) requests(method string) (counts struct{ Executed, Received int }) {
	f.t.Helper()

	if err := json.Unmarshal(f.ctl("requests", "--method", method), &counts); err != nil {
		f.t.Fatal(err)
	}

	return counts
}
