package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// chaosRow is one command of the chaos test. In args WORKER and CP are nodes, SEED is the number of the run, and TIMEOUT
// a short deadline.
type chaosRow struct {
	args string
	// raw says that stdout has no document.
	raw bool
	// sends are the calls by which it changes something, each at most once on a node (times: that often).
	sends []string
	times int
	// event is what the node's timeline has once at most where a request is sent more often: a dry run, or one that etcd refused.
	event string
	// nodes are the nodes that it may change.
	nodes string
	// twice is how a second run may end in addition to exit code 0.
	twice []errs.Code
	// sparse says that a node may have no item: nothing on it is worth one.
	sparse bool
	// lasting says that a node may stay down, or out of etcd.
	lasting bool

	before   func(*chaosRun)      // Prepares the state.
	happened func(*chaosRun) bool // The change shows in the state.
	verify   func(*chaosRun)      // More about the result.
	after    func(*chaosRun)      // Makes the cluster what it was, once all is checked.
}

func (c chaosRow) changes() bool { return len(c.sends) > 0 || c.happened != nil }

// name is the command without its arguments.
func (c chaosRow) name() string {
	words := strings.Fields(c.args)

	return strings.Join(words[:min(2, len(words))], " ")
}

// chaosRows are the commands.
func chaosRows() []chaosRow {
	return append(chaosReads(), chaosChanges()...)
}

func chaosReads() []chaosRow {
	return []chaosRow{
		{args: "version -A -o json --timeout TIMEOUT"},
		{args: "service list -A -o json --timeout TIMEOUT"},
		{args: "service info etcd --controlplanes -o json --timeout TIMEOUT"},
		{args: "members -n CP -o json --timeout TIMEOUT"},
		{args: "get services -A -o json --timeout TIMEOUT"},
		{args: "get machineconfigs -n CP,WORKER -o json --timeout TIMEOUT"},
		{args: "health -o json --timeout TIMEOUT"},
		{args: "etcd status -o json --timeout TIMEOUT"},
		{args: "etcd members -o json --timeout TIMEOUT"},
		{args: "etcd snapshot etcd.db -o json --timeout 3s", sparse: true, verify: (*chaosRun).snapshotIsWhole},
		{args: "fs read " + chaosFile + " -n WORKER --timeout TIMEOUT", raw: true, verify: (*chaosRun).fileIsWhole},
		{args: "fs read " + chaosFile + " -n CP,WORKER -o json --timeout TIMEOUT"},
		{args: "fs cp /var/chaos copy -n WORKER -o json --timeout 3s", verify: (*chaosRun).copyIsWhole},
		{args: "fs ls /var/chaos -A -o json --timeout TIMEOUT"},
		{args: "logs kubelet -n CP,WORKER -o ndjson --timeout TIMEOUT", raw: true},
		{args: "dmesg -n WORKER --timeout TIMEOUT", raw: true},
		{args: "wait --for etcd=healthy --controlplanes -o json --wait-timeout 2s"},
		{args: "kubeconfig - --timeout TIMEOUT", raw: true, verify: (*chaosRun).kubeconfigIsWhole},
		{args: "kubeconfig kube.yaml --timeout TIMEOUT", raw: true, verify: (*chaosRun).kubeconfigIsWhole},
		{args: "machineconfig get -n WORKER --timeout TIMEOUT", raw: true},
		{args: "network netstat -A -o json --timeout TIMEOUT"},
		{args: "system disks -A -o json --timeout TIMEOUT"},
		{args: "image list -A -o json --timeout TIMEOUT", sparse: true}, // a node that was wiped has none
		{args: "container list -A -o json --timeout TIMEOUT", sparse: true},
		{args: "state save state.json --timeout TIMEOUT", raw: true, verify: (*chaosRun).noneOfPart},
		{args: "support -O bundle.zip --timeout TIMEOUT", raw: true, verify: (*chaosRun).noneOfPart},
		{args: "describe node WORKER --timeout TIMEOUT -o json"},
		{args: "upgrade plan -A --to v1.14.1 --check-images=false -o json --timeout TIMEOUT", twice: []errs.Code{errs.Refused}}, // a node may run a newer version
	}
}

// emptyImage is the installer without extensions, without its version.
const emptyImage = "factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:"

func chaosChanges() []chaosRow {
	restarted := func(r *chaosRun) bool { return r.executed(r.worker, "ServiceRestart") > 0 }
	rebooted := func(r *chaosRun) bool { return r.rebooted(r.worker) > 0 }
	sysctl := func(r *chaosRun) {
		r.file("patch.yaml", fmt.Sprintf("machine:\n  sysctls:\n    vm.swappiness: \"%d\"\n", r.seed))
	}
	configured := func(r *chaosRun) bool { return r.before[r.worker].Config != r.after[r.worker].Config }

	return append([]chaosRow{
		{args: "service restart kubelet -n WORKER -o json --wait-timeout 3s --timeout TIMEOUT", sends: []string{"ServiceRestart"}, nodes: "WORKER", happened: restarted},
		{args: "service restart kubelet -n worker-1,worker-2,CP -o json --wait-timeout 3s --timeout TIMEOUT", sends: []string{"ServiceRestart"}},
		{args: "image pull docker.io/library/chaos:SEED -n WORKER -o json --pull-timeout 2s --timeout TIMEOUT", sends: []string{"ImageService/Pull"}, nodes: "WORKER", happened: func(r *chaosRun) bool {
			return r.hasImage("docker.io/library/chaos:")
		}},
		{args: "image remove docker.io/library/gone:SEED -n WORKER -o json --timeout TIMEOUT", sends: []string{"ImageService/Remove"}, nodes: "WORKER", before: func(r *chaosRun) {
			r.tellLab("image-add", r.worker, "ref", fmt.Sprint("docker.io/library/gone:", r.seed))
		}, happened: func(r *chaosRun) bool { return !r.hasImage("docker.io/library/gone:") }},
		{args: "image prune -n WORKER --apply --older-than 0s -o json --timeout TIMEOUT", sends: []string{"ImageService/Remove"}, times: 1000, nodes: "WORKER", before: func(r *chaosRun) {
			for i := range 4 {
				r.tellLab("image-add", r.worker, "ref", fmt.Sprintf("docker.io/library/old-%d:%d", i, r.seed), "age", "24h")
			}
		}, happened: func(r *chaosRun) bool { return !r.hasImage("docker.io/library/old-") }},
		{args: "machineconfig patch -n WORKER -p @patch.yaml -o json --timeout TIMEOUT --ready-timeout 4s --reboot-timeout 6s", sends: []string{"ApplyConfiguration"}, times: 6, event: "config", nodes: "WORKER", before: sysctl, happened: configured},
		{args: "machineconfig apply -n WORKER -f config.yaml -o json --timeout TIMEOUT --ready-timeout 4s --reboot-timeout 6s", sends: []string{"ApplyConfiguration"}, times: 6, event: "config", nodes: "WORKER", before: func(r *chaosRun) { r.file("config.yaml", r.nextConfig()) }, happened: configured},
		{args: "node reboot -n WORKER -o json --timeout TIMEOUT --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Reboot"}, nodes: "WORKER", happened: rebooted},
		{args: "node reboot -n WORKER --drain -o json --timeout TIMEOUT --reboot-timeout 6s --ready-timeout 6s --drain-timeout 5s", sends: []string{"Reboot"}, nodes: "WORKER", happened: rebooted},
		{args: "node reboot --controlplanes -o json --timeout TIMEOUT --reboot-timeout 5s --ready-timeout 5s", sends: []string{"Reboot"}},
		{args: "node reboot -n worker-1,worker-2 --drain --concurrency 2 -o json --timeout TIMEOUT --reboot-timeout 6s --ready-timeout 6s --drain-timeout 5s", sends: []string{"Reboot"}},
		{args: "node reboot -n CP -o json --timeout TIMEOUT --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Reboot"}, nodes: "CP", happened: func(r *chaosRun) bool { return r.rebooted(r.cp) > 0 }},
		{args: "machineconfig patch -n WORKER -p @patch.yaml --mode reboot -o json --timeout TIMEOUT --ready-timeout 6s --reboot-timeout 6s", sends: []string{"ApplyConfiguration"}, times: 6, event: "config", nodes: "WORKER", before: sysctl, happened: configured},
		{args: "machineconfig patch -n worker-1,worker-2,CP -p @patch.yaml -o json --timeout TIMEOUT --ready-timeout 4s --reboot-timeout 6s", sends: []string{"ApplyConfiguration"}, times: 6, event: "config", before: sysctl},
		{args: "upgrade apply -n worker-1,worker-2 --image IMAGE --gate-timeout 3s --check-images=false --override TM154 --snapshot none -o json --timeout TIMEOUT --pull-timeout 3s --install-timeout 3s --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Reboot", "LifecycleService/Upgrade"}, before: func(r *chaosRun) { r.row.args = strings.Replace(r.row.args, "IMAGE", emptyImage+r.otherVersion(), 1) }},
		{args: "node cordon -n WORKER -o json --timeout TIMEOUT", happened: func(r *chaosRun) bool { return r.cordoned(r.worker) }},
		{args: "node drain -n WORKER -o json --timeout TIMEOUT --drain-timeout 4s", happened: func(r *chaosRun) bool { return r.cordoned(r.worker) }},
		{args: "node uncordon -n WORKER -o json --timeout TIMEOUT", before: func(r *chaosRun) { r.setCordon(r.worker, true) }, happened: func(r *chaosRun) bool { return !r.cordoned(r.worker) }},
		{args: "node shutdown -n WORKER --force -o json --timeout TIMEOUT --silence 1s --reboot-timeout 6s", sends: []string{"Shutdown"}, nodes: "WORKER", lasting: true, happened: func(r *chaosRun) bool {
			return !r.after[r.worker].Powered
		}},
		{args: "node shutdown -n CP --force -o json --timeout TIMEOUT --silence 1s --reboot-timeout 6s", sends: []string{"Shutdown"}, nodes: "CP", lasting: true, happened: func(r *chaosRun) bool {
			return !r.after[r.cp].Powered
		}},
		{args: "etcd defrag -n CP -o json --timeout TIMEOUT --member-timeout 2s --wait-timeout 2s", sends: []string{"EtcdDefragment"}, nodes: "CP"},
		{args: "etcd defrag --controlplanes -o json --timeout TIMEOUT --member-timeout 2s --wait-timeout 2s", sends: []string{"EtcdDefragment"}},
		{args: "etcd forfeit-leadership -n CP -o json --timeout TIMEOUT --request-timeout 2s --wait-timeout 3s", sends: []string{"EtcdForfeitLeadership"}, before: func(r *chaosRun) {
			r.tellLab("etcd-move-leader", r.cp)
		}},
		{args: "etcd alarm disarm -n CP --override TM160 -o json --timeout TIMEOUT --request-timeout 2s --wait-timeout 3s", sends: []string{"EtcdAlarmDisarm"}, before: func(r *chaosRun) {
			r.tellLab("etcd-alarm", r.cp, "alarm", "nospace")
		}},
		{args: "config new reader.yaml --roles os:reader -n CP -o json --timeout TIMEOUT", sends: []string{"GenerateClientConfiguration"}, verify: (*chaosRun).noneOfPart},
		{args: "upgrade node -n WORKER --image IMAGE -o json --override TM133 --override TM154 --timeout TIMEOUT --pull-timeout 3s --install-timeout 3s --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Reboot", "LifecycleService/Upgrade"}, nodes: "WORKER", happened: func(r *chaosRun) bool {
			return r.before[r.worker].Version != r.after[r.worker].Version
		}, before: func(r *chaosRun) {
			r.row.args = strings.Replace(r.row.args, "IMAGE", emptyImage+r.otherVersion(), 1)
		}},
	}, chaosDestructive()...)
}

// chaosDestructive are the commands that take something away, and that the cluster recovers from.
func chaosDestructive() []chaosRow {
	anywhere := func(method string) func(*chaosRun) bool {
		return func(r *chaosRun) bool {
			return slices.ContainsFunc(chaosNodes(), func(n string) bool { return r.executed(n, method) > 0 })
		}
	}
	gone := []errs.Code{errs.Usage, errs.Refused, errs.Failed, errs.Unreachable} // what it was about is not there any more

	return []chaosRow{
		{
			args: "node reset -n WORKER --yes --reboot --system-labels EPHEMERAL -o json --timeout TIMEOUT --reboot-timeout 8s --ready-timeout 8s", sends: []string{"Reset"}, nodes: "WORKER",
			happened: anywhere("Reset"), after: (*chaosRun).refill,
		},
		{
			args: "node reset -n CP --yes --reboot --system-labels EPHEMERAL -o json --timeout TIMEOUT --reboot-timeout 8s --ready-timeout 8s", sends: []string{"Reset"}, nodes: "CP",
			happened: anywhere("Reset"), after: (*chaosRun).rejoin,
		},
		{
			args: "etcd remove-member CP --yes --override TM122 -o json --timeout TIMEOUT --request-timeout 2s --wait-timeout 5s", sends: []string{"EtcdRemoveMemberByID"}, times: 20, event: "etcd-down", twice: gone, lasting: true,
			happened: anywhere("EtcdRemoveMemberByID"), after: (*chaosRun).rejoin,
		},
		{
			args: "etcd leave -n CP --yes -o json --timeout TIMEOUT --request-timeout 2s --wait-timeout 5s", sends: []string{"EtcdLeaveCluster"}, times: 20, event: "etcd-down", nodes: "CP", twice: gone, lasting: true,
			happened: anywhere("EtcdLeaveCluster"), after: (*chaosRun).rejoin,
		},
		{args: "node wipe sdb -n WORKER --yes -o json --timeout TIMEOUT --wait-timeout 3s", sends: []string{"BlockDeviceWipe"}, nodes: "WORKER", happened: anywhere("BlockDeviceWipe")},
		{args: "node rollback -n WORKER -o json --timeout TIMEOUT --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Rollback"}, nodes: "WORKER", twice: gone, happened: anywhere("Rollback")},
		{
			args: "etcd downgrade enable 3.5 -n CP -o json --timeout TIMEOUT --request-timeout 2s --wait-timeout 3s", sends: []string{"EtcdDowngradeEnable"}, twice: gone, happened: anywhere("EtcdDowngradeEnable"),
			after: func(r *chaosRun) { _, _ = r.plainly("etcd", "downgrade", "cancel", "-n", r.cp) }, // it may not be enabled
		},
		{
			args: "machineconfig rollout apply rollout -n WORKER --backup-dir kept -o json --timeout TIMEOUT --try-timeout 5s --ready-timeout 5s --reboot-timeout 3s --settle-time 500ms", sends: []string{"ApplyConfiguration"}, times: 8, nodes: "WORKER",
			before:   func(r *chaosRun) { r.file(filepath.Join("rollout", r.worker+".yaml"), r.nextConfig()) },
			happened: func(r *chaosRun) bool { return r.before[r.worker].Persisted != r.after[r.worker].Persisted },
			after: func(r *chaosRun) {
				r.until("the trial to end", func(context.Context) bool { n := r.states()[r.worker]; return n.Config == n.Persisted })
			},
		},
		{
			args: "upgrade node -n CP --image IMAGE -o json --override TM133 --override TM154 --timeout TIMEOUT --pull-timeout 3s --install-timeout 3s --reboot-timeout 6s --ready-timeout 6s", sends: []string{"Reboot", "LifecycleService/Upgrade"}, nodes: "CP",
			before:   func(r *chaosRun) { r.row.args = strings.Replace(r.row.args, "IMAGE", emptyImage+r.otherThan(r.cp), 1) },
			happened: func(r *chaosRun) bool { return r.before[r.cp].Version != r.after[r.cp].Version },
		},
	}
}

// nextConfig is the worker's configuration with another variable.
func (r *chaosRun) nextConfig() string {
	r.t.Helper()

	var now struct{ Config string }

	r.ask(&now, "config", r.worker)

	documents := slices.DeleteFunc(strings.Split(strings.TrimSpace(now.Config), "\n---\n"), func(d string) bool {
		return strings.Contains(d, "kind: EnvironmentConfig")
	})

	return strings.Join(documents, "\n---\n") + fmt.Sprintf("\n---\napiVersion: v1alpha1\nkind: EnvironmentConfig\nvariables:\n  CHAOS: \"%d\"\n", r.seed)
}

// refill puts the files that a wipe has removed on the nodes again.
func (r *chaosRun) refill() {
	r.t.Helper()

	for _, n := range chaosNodes() {
		r.tellLab("file", n, "path", chaosFile, "content", chaosContent())
		r.tellLab("file", n, "path", "/var/chaos/small", "content", "small\n")
	}
}

// rejoin makes a control plane that has left etcd a member again.
func (r *chaosRun) rejoin() {
	r.t.Helper()

	if members, _ := r.plainly("etcd", "members", "-o", "json", "--query", ".items | length"); strings.TrimSpace(members) != "3" {
		if out, err := r.plainly("node", "reset", "-n", r.cp, "--yes", "--reboot", "--graceful=false", "--system-labels", "EPHEMERAL", "--override", "TM120", "--override", "TM121"); err != nil {
			r.t.Fatalf("%s: %v", out, err)
		}
	}

	if out, err := r.plainly("wait", "--for", "etcd=healthy", "--controlplanes", "--wait-timeout", "2m"); err != nil {
		r.t.Fatalf("%s: %v", out, err)
	}

	r.refill()
}

// plainly runs talosmate without faults.
func (r *chaosRun) plainly(args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(r.bin, "talosmate"), args...)
	cmd.Dir, cmd.Env = r.work, append(slices.Clone(r.env), "HOME="+r.home)
	out, err := cmd.Output()

	return string(out), err
}

// otherVersion is one that the worker does not run.
func (r *chaosRun) otherVersion() string { return r.otherThan(r.worker) }

func (r *chaosRun) otherThan(node string) string {
	r.t.Helper()

	if r.states()[node].Version == "v1.14.2" {
		return "v1.14.1"
	}

	return "v1.14.2"
}

// file writes a file into the folder where the command runs.
func (r *chaosRun) file(name, text string) {
	r.t.Helper()

	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.work, name)), 0o700); err != nil {
		r.t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(r.work, name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// executed counts the calls that a node has executed.
func (r *chaosRun) executed(node, method string) (n int) {
	for m, times := range r.counts[node].Executed {
		if strings.HasSuffix(m, "/"+method) || strings.HasSuffix(m, "."+method) {
			n += times
		}
	}

	return n
}

// received counts the calls that the nodes have received from talosmate.
func (r *chaosRun) received(method string) (n int) {
	for _, c := range r.counts {
		for m, times := range c.Received {
			if strings.HasSuffix(m, "/"+method) || strings.HasSuffix(m, "."+method) {
				n += times
			}
		}
	}

	return n
}

// rebooted counts the reboots that a node was asked for.
func (r *chaosRun) rebooted(node string) int {
	return len(r.after[node].History.Reboots) - len(r.before[node].History.Reboots)
}

func (r *chaosRun) hasImage(prefix string) bool {
	for _, images := range r.after[r.worker].Images {
		for _, image := range images {
			if strings.HasPrefix(image.Name, prefix) && strings.HasSuffix(image.Name, fmt.Sprint(":", r.seed)) {
				return true
			}
		}
	}

	return false
}

func (r *chaosRun) cordoned(node string) bool {
	r.t.Helper()

	n, found, err := r.kube.Node(r.t.Context(), node)
	if err != nil || !found {
		r.t.Fatalf("%s: %t, %v", node, found, err)
	}

	return n.Unschedulable
}

func (r *chaosRun) setCordon(node string, on bool) {
	r.t.Helper()
	r.patch("/api/v1/nodes/"+node, fmt.Sprintf(`{"spec":{"unschedulable":%t},"metadata":{"annotations":null}}`, on))
}

// wholeOrNone checks that a file is there on success, and that nothing of it is there otherwise.
func (r *chaosRun) wholeOrNone(name string) bool {
	r.t.Helper()

	_, err := os.Stat(filepath.Join(r.work, name))
	if there := err == nil; r.code != errs.Interrupted && there != (r.code == errs.OK || r.code == errs.Partial) {
		r.t.Errorf("exit code %d, and %s is there: %t", r.code, name, there)
	}

	return err == nil
}

func (r *chaosRun) snapshotIsWhole() {
	r.t.Helper()

	if !r.wholeOrNone("etcd.db") {
		return
	}

	var inspected struct {
		Revision  int64
		TotalKeys int `json:"total_keys"`
	}

	r.ask(&inspected, "etcd-inspect", "", "path", filepath.Join(r.work, "etcd.db"))

	if inspected.TotalKeys == 0 || inspected.Revision != number(r.doc.Result["revision"]) {
		r.t.Errorf("the snapshot has %+v, the document %v", inspected, r.doc.Result)
	}
}

// number is a number of a JSON document.
func number(v any) int64 {
	n, _ := v.(float64)

	return int64(n)
}

func (r *chaosRun) fileIsWhole() {
	r.t.Helper()

	whole := chaosContent()
	if !strings.HasPrefix(whole, r.stdout) || r.code == errs.OK && r.stdout != whole {
		r.t.Errorf("%d of %d bytes, or others, with exit code %d", len(r.stdout), len(whole), r.code)
	}
}

func (r *chaosRun) copyIsWhole() {
	r.t.Helper()

	if !r.wholeOrNone("copy") {
		return
	}

	big := slices.IndexFunc(filesIn(r.work), func(name string) bool { return strings.HasSuffix(name, "/big") })
	if big < 0 {
		r.t.Errorf("the copy has %v", filesIn(r.work))

		return
	}

	if raw, err := os.ReadFile(filepath.Join(r.work, filesIn(r.work)[big])); err != nil || string(raw) != chaosContent() {
		r.t.Errorf("the copy is not the file: %d bytes, %v", len(raw), err)
	}
}

func (r *chaosRun) kubeconfigIsWhole() {
	r.t.Helper()

	text := r.stdout
	if raw, err := os.ReadFile(filepath.Join(r.work, "kube.yaml")); err == nil {
		text = string(raw)
	}

	if whole := strings.Contains(text, "client-key-data"); r.code != errs.Interrupted && whole != (r.code == errs.OK) {
		r.t.Errorf("exit code %d with %q", r.code, text)
	}
}

// noneOfPart checks that a command that fails leaves no file that was to have its result.
func (r *chaosRun) noneOfPart() {
	r.t.Helper()

	if files := filesIn(r.work); r.code != errs.Interrupted && (len(files) == 1) != (r.code == errs.OK || r.code == errs.Partial) {
		r.t.Errorf("exit code %d, and there are %v", r.code, files)
	}
}
