package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/drain"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
)

const attachments = "/apis/storage.k8s.io/v1/volumeattachments"

// volume makes a claim default/NAME with the volume pv-NAME, attached to a node as va-NAME.
func (f *fleet) volume(name, node string) {
	f.t.Helper()

	f.post("/api/v1/persistentvolumes", fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pv-%[1]s"},
		"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"storageClassName":"none","claimRef":{"namespace":"default","name":%[1]q},
		"csi":{"driver":"rbd.csi.ceph.com","volumeHandle":"handle-%[1]s"}}}`, name))
	f.post("/api/v1/namespaces/default/persistentvolumeclaims", fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":%[1]q,
		"annotations":{"pv.kubernetes.io/bind-completed":"yes"}},
		"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","volumeName":"pv-%[1]s","resources":{"requests":{"storage":"1Gi"}}}}`, name))
	f.attach(name, node)
}

func (f *fleet) attach(name, node string) {
	f.t.Helper()

	f.post(attachments, fmt.Sprintf(`{"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttachment","metadata":{"name":"va-%[1]s"},
		"spec":{"attacher":"rbd.csi.ceph.com","nodeName":%[2]q,"source":{"persistentVolumeName":"pv-%[1]s"}}}`, name, node))
}

func (f *fleet) detach(name string) {
	f.t.Helper()

	if err := f.kube.API.CoreV1().RESTClient().Delete().AbsPath(attachments + "/va-" + name).Do(f.t.Context()).Error(); err != nil {
		f.t.Error(err)
	}
}

// user puts a pod on a node that uses a claim.
func (f *fleet) user(name, claim, node string) {
	f.t.Helper()

	f.post("/api/v1/namespaces/default/pods", fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":%[1]q}},
		"spec":{"nodeName":%q,"terminationGracePeriodSeconds":1,"containers":[{"name":"c","image":"x"}],
		"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":%q}}]}}`, name, node, claim))

	f.until(name+" to be ready", func(ctx context.Context) bool {
		n, err := f.readyPods(ctx, name)

		return err == nil && n == 1
	})
}

// TestVolumes drains, reboots and upgrades nodes of a real Kubernetes whose volumes are detached late or never.
func TestVolumes(t *testing.T) {
	t.Parallel()

	shared := startFleet(t, "--controlplanes", "1", "--workers", "2", "--talos-version", "v1.13.8")
	shared.volume("other", "worker-2")
	shared.user("other-0", "other", "worker-2")
	shared.volume("agent", "worker-1")
	shared.post("/apis/apps/v1/namespaces/default/daemonsets", `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"agent"},
		"spec":{"selector":{"matchLabels":{"app":"agent"}},"template":{"metadata":{"labels":{"app":"agent"}},"spec":{"containers":[{"name":"c","image":"x"}],
		"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"agent"}}],"nodeSelector":{"kubernetes.io/hostname":"worker-1"}}}}}`)
	shared.until("the agent", func(ctx context.Context) bool {
		n, err := shared.readyPods(ctx, "agent")

		return err == nil && n == 1
	})
	shared.volume("db", "worker-1")

	for _, c := range []struct {
		name string
		test func(*fleet)
	}{
		{"volume that stays", (*fleet).volumeStays},
		{"volume that is detached late", (*fleet).volumeLate},
		{"interrupt", (*fleet).volumeInterrupt},
		{"budget", (*fleet).volumeBudget},
		{"forbidden", (*fleet).volumeForbidden},
		{"upgrade", (*fleet).volumeUpgrade},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := *shared
			f.t = t
			c.test(&f)
		})
	}
}

// volumeStays: the node is not rebooted and is uncordoned, and the volume is named. A second run finds no pod, and waits
// all the same. Volumes of other nodes and of DaemonSets are not waited for.
func (f *fleet) volumeStays() {
	f.user("db-0", "db", "worker-1")

	boot := f.machine("worker-1").BootID

	for _, pod := range []string{"default/db-0", ""} {
		got := f.act("reboot", "--drain", "-n", "worker-1", "--volumes-timeout", "2s")
		if got.code != 1 || got.Items[0].Status != runbook.DrainFailed || !got.Items[0].Uncordoned || len(got.Items[0].AttachedVolumes) != 1 {
			f.t.Fatalf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
		}

		v := got.Items[0].AttachedVolumes[0]
		if v.Attachment != "va-db" || v.Volume != "pv-db" || v.Claim != "default/db" || v.Pod != pod || v.Driver != "rbd.csi.ceph.com" {
			f.t.Errorf("%+v", v)
		}

		if !strings.Contains(got.stderr, "1 volume is still attached after 2s: pv-db (claim default/db)") || !strings.Contains(got.stderr, "--wait-volumes=false") {
			f.t.Error(got.stderr)
		}

		f.cordoned("worker-1", false)
	}

	if f.machine("worker-1").BootID != boot {
		f.t.Error("the node was rebooted")
	}

	got := f.schedule("drain", "-n", "worker-1", "--volumes-timeout", "2s")
	if got.code != 1 || len(got.Items[0].AttachedVolumes) != 1 || !strings.Contains(got.stderr, "talosmate node uncordon") {
		f.t.Errorf("drain: exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", true)
	f.schedule("uncordon", "-n", "worker-1")

	if act := f.act("reboot", "--drain", "-n", "worker-1", "--wait-volumes=false"); act.code != 0 || f.machine("worker-1").BootID == boot {
		f.t.Errorf("without the wait: exit code %d, %+v\n%s", act.code, act.Items[0], act.stderr)
	}
}

const volumeWait = "until the volumes are detached"

// volumeLate: the drain ends when the volume is detached.
func (f *fleet) volumeLate() {
	f.user("db-1", "db", "worker-1")

	got := watched[drain.Change](f, volumeWait, func(*os.Process) { f.detach("db") }, "node", "drain", "-n", "worker-1")
	if got.code != 0 || got.Items[0].Status != runbook.Drained || got.Items[0].DrainedPods != 1 || !strings.Contains(got.stderr, "detached pv-db") {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.schedule("uncordon", "-n", "worker-1")
	f.attach("db", "worker-1")
}

// volumeInterrupt: an interrupt ends the wait and lifts the cordon.
func (f *fleet) volumeInterrupt() {
	got := watched[drain.Change](f, volumeWait, interrupt, "node", "drain", "-n", "worker-1")
	if got.code != 130 || got.Items[0].Status != runbook.Interrupted {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", false)
}

// volumeBudget: a pod that its budget holds ends the drain; its volume is not waited for.
func (f *fleet) volumeBudget() {
	f.user("held", "db", "worker-1")
	f.limit("held", 1, 1)

	got := f.act("reboot", "--drain", "-n", "worker-1", "--override", "TM140", "--drain-timeout", "2s")
	if got.code != 1 || got.Items[0].Status != runbook.DrainFailed || len(got.Items[0].AttachedVolumes) != 0 || strings.Contains(got.stderr, volumeWait) {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	f.cordoned("worker-1", false)
	f.unlimit("held")
}

// volumeForbidden: credentials that may drain and may not read volumes evict nothing, and say what they lack.
func (f *fleet) volumeForbidden() {
	f.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"drainer"},"rules":[
		{"apiGroups":[""],"resources":["nodes","pods","pods/eviction"],"verbs":["*"]},{"apiGroups":["apps","policy"],"resources":["*"],"verbs":["*"]}]}`)
	f.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"drainer"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"drainer"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"drainer"}]}`)

	admin, err := os.ReadFile(filepath.Join(f.dir, "lab", "kubeconfig"))
	if err != nil {
		f.t.Fatal(err)
	}

	limited := f.write("drainer", strings.Replace(string(admin), "client-key-data:", "as: drainer\n    client-key-data:", 1))

	got := f.act("reboot", "--drain", "-n", "worker-1", "--kubeconfig", limited)
	if got.code != 1 || got.Items[0].Status != runbook.DrainFailed || got.Items[0].DrainedPods != 0 || !got.Items[0].Uncordoned {
		f.t.Errorf("exit code %d, %+v\n%s", got.code, got.Items[0], got.stderr)
	}

	if !strings.Contains(got.stderr, "cannot read which volumes are attached to worker-1") || !strings.Contains(got.stderr, "list volumeattachments.storage.k8s.io") {
		f.t.Error(got.stderr)
	}

	f.cordoned("worker-1", false)

	if pods := strings.Join(f.pods(f.t.Context(), "worker-1"), " "); !strings.Contains(pods, "held") {
		f.t.Errorf("left are %s", pods)
	}
}

// volumeUpgrade: an upgrade whose node keeps a volume installs nothing and halts; the next run finishes it.
func (f *fleet) volumeUpgrade() {
	res, code := f.apply("--volumes-timeout", "2s")
	if code == 0 || res.Status != runbook.Halted {
		f.t.Fatalf("exit code %d, %s: %s", code, res.Status, res.Error)
	}

	last := res.Nodes[len(res.Nodes)-1]
	if last.Hostname != "worker-1" || last.Status != runbook.DrainFailed || len(last.AttachedVolumes) != 1 || last.Rebooted || f.machine("worker-1").Version != "v1.13.8" {
		f.t.Errorf("%+v", last)
	}

	f.cordoned("worker-1", false)
	f.detach("db")
	f.detach("other") // worker-2's volume is waited for at its own turn

	if res, code = f.apply(); code != 0 || res.Status != runbook.OK {
		f.t.Fatalf("exit code %d, %s: %s", code, res.Status, res.Error)
	}

	var none upgrade.Result
	for _, n := range res.Nodes {
		if len(n.AttachedVolumes) != len(none.AttachedVolumes) {
			f.t.Errorf("%s: %+v", n.Hostname, n.AttachedVolumes)
		}
	}
}
