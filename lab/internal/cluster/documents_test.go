package cluster_test

import (
	"slices"
	"strings"
	"testing"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/images"
	"github.com/talosmate/talosmate/lab/internal/recording"
)

func TestDocumentsByVersion(t *testing.T) {
	b := start(t, func(o *testOptions) {
		small(o)
		o.Workers, o.TalosVersion, o.Mixed = 3, "v1.13.8", map[string]string{"worker-1": "v1.12.9", "worker-3": "v1.14.1"}
	})

	for _, c := range []struct{ node, document, want string }{
		{"worker-1", "kind: EnvironmentConfig\nvariables:\n  A: b\n", `error decoding document v1alpha1/EnvironmentConfig/ (line `},
		{"worker-1", "kind: WatchdogTimerConfig\ndevice: /dev/watchdog0\n", ""},
		{"worker-2", "kind: EnvironmentConfig\nvariables:\n  A: b\n", ""},
		{"worker-2", "kind: SysctlConfig\nparams: {a: b}\n", `"SysctlConfig" "v1alpha1": not registered`},
		{"worker-3", "kind: SysctlConfig\nparams: {a: b}\n", ""},
		{"worker-3", "kind: NoSuchConfig\n", `"NoSuchConfig" "v1alpha1": not registered`},
		{"worker-3", "kind: WatchdogTimerConfig\nnosuch: 1\n", "unknown keys found during decoding"},
	} {
		text := b.config(c.node) + "---\napiVersion: v1alpha1\n" + c.document
		_, err := b.apply(b.direct(c.node), c.node, text, machineapi.ApplyConfigurationRequest_NO_REBOOT, true)

		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %s: %v", c.node, c.document, err)
		case c.want != "" && (status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %s: %v, want %s", c.node, c.document, err, c.want)
		}
	}
}

func TestFirstConfigurationOf114(t *testing.T) {
	b := start(t, func(o *testOptions) {
		o.ControlPlanes, o.Workers, o.Maintenance, o.Etcd = 1, 1, 3, false
	})

	apply := func(node, text string) error {
		_, err := b.insecure(node).ApplyConfiguration(b.ctx, &machineapi.ApplyConfigurationRequest{Data: []byte(text), Mode: machineapi.ApplyConfigurationRequest_AUTO})

		return err
	}

	for text, want := range map[string]string{
		"{}": "missing kind", "machine:\n  type: worker\n": "cluster instructions are required", "cluster: {}\n": "machine instructions are required",
	} {
		if err := apply("new-1", text); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}

	// documents alone are accepted and are not enough to boot
	if err := apply("new-1", "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: off\nhostname: x\n"); err != nil {
		t.Error(err)
	}

	// nothing needs to say how Talos is installed; where a document does, its image is
	documents := strings.Split(b.config("worker-1"), "---\n")
	without := slices.DeleteFunc(slices.Clone(documents), func(d string) bool { return strings.Contains(d, "kind: UnattendedInstallConfig") })

	if len(without) != len(documents)-1 {
		t.Fatal("no document of the installation to remove")
	}

	for node, text := range map[string][]string{"new-2": without, "new-3": documents} {
		if err := apply(node, strings.Replace(strings.Join(text, "---\n"), "hostname: worker-1", "hostname: "+node, 1)); err != nil {
			t.Fatal(err)
		}

		b.until("the node", func() bool { return b.node(node).Ready() && !b.node(node).Maintenance() })
	}

	if image := b.node("new-3").Dump().Slots["A"].Image; image != "factory.talos.dev/metal-installer/"+images.EmptySchematic+":v1.14.1" {
		t.Errorf("installed from %q", image)
	}

	if !b.node("new-1").Maintenance() {
		t.Error("an incomplete configuration ended the maintenance mode")
	}
}

// TestApplyConfigurationOf114 sends what the recording's names say to a node whose configuration is documents, and
// compares the answers. The context of a difference is the node's own.
func TestApplyConfigurationOf114(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.TalosVersion = "v1.14.0-rc.1" })
	set := recording.Open(release114+"/acts", nil)
	was := b.config("cp-1")
	sysctl := was + "---\napiVersion: v1alpha1\nkind: SysctlConfig\nparams:\n    vm.swappiness: \"10\"\n"

	for name, text := range map[string]string{
		"dry-run-unchanged": was, "reboot-mode-refused": was,
		"dry-run-hostname":             strings.Replace(was, "hostname: cp-1", "hostname: cp-9", 1),
		"dry-run-sysctl-document-auto": sysctl, "dry-run-sysctl-document-no-reboot": sysctl,
		"dry-run-sysctl-document-staged": sysctl, "dry-run-sysctl-document-try": sysctl,
		"dry-run-install-disk-auto":                strings.Replace(was, "/dev/sda", "/dev/sdb", 1),
		"dry-run-type-change":                      strings.Replace(was, "type: controlplane", "type: worker", 1),
		"invalid-unknown-field":                    strings.Replace(was, "machine:\n", "machine:\n    nosuchfield: 1\n", 1),
		"invalid-v1alpha1-conflicts-with-document": strings.Replace(was, "cluster:\n", "cluster:\n    clusterName: x\n", 1),
	} {
		call, err := set.Call("MachineService.ApplyConfiguration." + name)
		if err != nil {
			t.Fatal(err)
		}

		req := recorded(call.Request, &machineapi.ApplyConfigurationRequest{})
		req.Data = []byte(text)

		resp, err := b.direct("cp-1").MachineClient.ApplyConfiguration(b.on("cp-1"), req)
		if want := call.Error.Status(); status.Code(err) != status.Code(want) || status.Convert(err).Message() != status.Convert(want).Message() {
			t.Errorf("%s:\n want error %v\n  got error %v", name, want, err)

			continue
		}

		if err != nil {
			continue
		}

		want := &machineapi.ApplyConfigurationResponse{}
		if err := set.Unary("MachineService.ApplyConfiguration."+name, want); err != nil {
			t.Fatal(err)
		}

		if got, want := resp.Messages[0], want.Messages[0]; got.Mode != want.Mode || outline(got.ModeDetails) != outline(strings.ReplaceAll(want.ModeDetails, "/dev/vd", "/dev/sd")) {
			t.Errorf("%s:\n want %v\n  got %v", name, want, got)
		}
	}
}

// outline leaves the context of a difference out.
func outline(details string) string {
	lines := slices.DeleteFunc(strings.Split(details, "\n"), func(l string) bool { return strings.HasPrefix(l, " ") || strings.HasPrefix(l, "@@") })

	return strings.Join(lines, "\n")
}

// TestConflictsOf114 puts fields of v1alpha1 beside the documents that replaced them. Talos 1.13 accepts those that it
// has no document for.
func TestConflictsOf114(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Mixed = map[string]string{"worker-1": "v1.13.8"} })

	for field, want := range map[string]string{
		"cluster:\n    controlPlane:\n        endpoint: https://192.0.2.1:6443\n":      "KubeClusterConfig",
		"cluster:\n    discovery:\n        enabled: true\n":                            "discovery service is already configured",
		"cluster:\n    secret: " + b.PKI.Bundle.Cluster.Secret + "\n":                  "DiscoveryIdentityConfig",
		"cluster:\n    network:\n        dnsDomain: cluster.local\n":                   "KubeNetworkConfig",
		"cluster:\n    apiServer:\n        image: registry.k8s.io/x:v1.35.4\n":         "kube-apiserver config is already set",
		"cluster:\n    controllerManager:\n        image: registry.k8s.io/x:v1.35.4\n": "kube-controller-manager config is already set",
		"cluster:\n    scheduler:\n        image: registry.k8s.io/x:v1.35.4\n":         "kube-scheduler config is already set",
		"cluster:\n    proxy:\n        image: registry.k8s.io/x:v1\n":                  "KubeProxyConfig",
		"cluster:\n    coreDNS:\n        image: registry.k8s.io/x:v1\n":                "CoreDNS config is already set",
		"machine:\n    kubelet:\n        image: ghcr.io/siderolabs/kubelet:v1.35.4\n":  "kubelet config is already set",
		"machine:\n    nodeLabels:\n        rack: a1\n":                                ".machine.nodeLabels is already set",
		"machine:\n    install:\n        disk: /dev/sda\n":                             "UnattendedInstallConfig",
		"machine:\n    network:\n        hostname: cp-1\n":                             "static hostname is already set",
	} {
		section, rest, _ := strings.Cut(field, "\n")
		text := strings.Replace(b.config("cp-1"), "\n"+section+"\n", "\n"+section+"\n"+rest, 1)

		_, err := b.apply(b.direct("cp-1"), "cp-1", text, machineapi.ApplyConfigurationRequest_AUTO, true)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", field, err, want)
		}
	}

	for node, text := range map[string]string{"cp-1": "{}", "worker-1": "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: off\nhostname: x\n"} {
		if _, err := b.apply(b.direct(node), node, text, machineapi.ApplyConfigurationRequest_AUTO, true); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %q: %v", node, text, err)
		}
	}

	labels := strings.Replace(b.config("worker-1"), "\nmachine:\n", "\nmachine:\n    nodeLabels:\n        rack: a1\n", 1)
	if _, err := b.apply(b.direct("worker-1"), "worker-1", labels, machineapi.ApplyConfigurationRequest_AUTO, true); err != nil {
		t.Error(err)
	}
}
