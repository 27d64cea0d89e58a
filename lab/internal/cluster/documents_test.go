package cluster_test

import (
	"strings"
	"testing"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestDocumentsByVersion(t *testing.T) {
	b := start(t, func(o *testOptions) {
		small(o)
		o.Workers, o.Mixed = 3, map[string]string{"worker-1": "v1.12.9", "worker-3": "v1.14.0"}
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
		o.ControlPlanes, o.Workers, o.Maintenance, o.Etcd, o.TalosVersion = 1, 1, 2, false, "v1.14.0"
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

	before, install, found := strings.Cut(b.config("worker-1"), "    install:\n")
	if !found {
		t.Fatal("no install section to remove")
	}

	// the section ends at the next key of machine
	lines := strings.SplitAfter(install, "\n")
	for len(lines) > 0 && strings.HasPrefix(lines[0], "        ") {
		lines = lines[1:]
	}

	if err := apply("new-2", strings.Replace(before+strings.Join(lines, ""), "hostname: worker-1", "hostname: worker-2", 1)); err != nil {
		t.Fatal(err)
	}

	b.until("the node", func() bool { return b.node("new-2").Ready() && !b.node("new-2").Maintenance() })

	if !b.node("new-1").Maintenance() {
		t.Error("an incomplete configuration ended the maintenance mode")
	}
}
