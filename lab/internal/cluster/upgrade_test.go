package cluster_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
)

const nextInstaller = "factory.talos.dev/metal-installer/" + images.EmptySchematic + ":v1.14.2"

func systemStore() *common.ContainerdInstance {
	return &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: common.ContainerdNamespace_NS_SYSTEM}
}

// pull fetches an installer and gives the digest-pinned name.
func (b *bed) pull(c *client.Client, node, image string) (string, error) {
	stream, err := c.ImageClient.Pull(b.on(node), &machineapi.ImageServicePullRequest{Containerd: systemStore(), ImageRef: image})
	if err != nil {
		return "", err
	}

	var name string

	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return name, nil
		}

		if err != nil {
			return "", err
		}

		if n := msg.GetName(); n != "" {
			name = n
		}
	}
}

// install runs the 1.13 installer call and gives its exit code and output.
func (b *bed) install(c *client.Client, node, image string) (int32, string, error) {
	stream, err := c.LifecycleClient.Upgrade(b.on(node), &machineapi.LifecycleServiceUpgradeRequest{
		Containerd: systemStore(), Source: &machineapi.InstallArtifactsSource{ImageName: image},
	})
	if err != nil {
		return 0, "", err
	}

	var (
		out  strings.Builder
		code int32 = -1
	)

	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return code, out.String(), nil
		}

		if err != nil {
			return code, out.String(), err
		}

		switch r := msg.GetProgress().GetResponse().(type) {
		case *machineapi.LifecycleServiceInstallProgress_Message:
			out.WriteString(r.Message)
		case *machineapi.LifecycleServiceInstallProgress_ExitCode:
			code = r.ExitCode
		}
	}
}

// arm puts a fault on a node.
func (b *bed) arm(node, spec string) {
	b.t.Helper()

	f, err := faults.Parse(spec)
	if err != nil {
		b.t.Fatal(err)
	}

	b.node(node).Faults.Arm(f)
}

// rebooted waits until a node is ready on another boot.
func (b *bed) rebooted(node, before string) {
	b.t.Helper()
	b.until(node+" to reboot", func() bool { n := b.node(node); return n.BootID() != before && n.Ready() })
}

func TestLifecycleUpgrade(t *testing.T) {
	b := start(t, small)
	c := b.client("")
	n := b.node("worker-1")
	before := n.BootID()

	if _, _, err := b.install(c, "worker-1", nextInstaller); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "not found in containerd store") {
		t.Fatalf("install without pull: %v", err)
	}

	name, err := b.pull(c, "worker-1", nextInstaller)
	if err != nil {
		t.Fatal(err)
	}

	if !strings.HasPrefix(name, "factory.talos.dev/metal-installer/"+images.EmptySchematic+"@sha256:") {
		t.Fatalf("pulled %q", name)
	}

	code, out, err := b.install(c, "worker-1", name)
	if err != nil || code != 0 {
		t.Fatalf("install: %d %v", code, err)
	}

	if !strings.Contains(out, "running Talos installer v1.14.2\n") {
		t.Errorf("output %q", out)
	}

	if n.BootID() != before || n.Version() != "v1.14.1" {
		t.Error("the installation activated")
	}

	if err := c.Reboot(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if n.Version() != "v1.14.2" {
		t.Errorf("version %s", n.Version())
	}

	// and back
	before = n.BootID()
	if err := c.Rollback(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if n.Version() != "v1.14.1" {
		t.Errorf("version after rollback %s", n.Version())
	}
}

func TestSecondInstallOverwritesTheRunningSlot(t *testing.T) {
	b := start(t, small)
	c := b.client("")

	name, err := b.pull(c, "worker-1", nextInstaller)
	if err != nil {
		t.Fatal(err)
	}

	for range 2 {
		if code, _, err := b.install(c, "worker-1", name); err != nil || code != 0 {
			t.Fatal(code, err)
		}
	}

	d := b.node("worker-1").Dump()
	if d.Slots["A"].Version != "v1.14.2" || d.Slots["B"].Version != "v1.14.2" || !d.History.Installs[1].OverRuns {
		t.Errorf("slots %+v", d.Slots)
	}
}

func TestFallBackToTheOldSlot(t *testing.T) {
	b := start(t, small)
	c := b.client("")
	n := b.node("worker-1")
	b.arm("worker-1", "boot-old-slot")

	name, err := b.pull(c, "worker-1", nextInstaller)
	if err != nil {
		t.Fatal(err)
	}

	if code, _, err := b.install(c, "worker-1", name); err != nil || code != 0 {
		t.Fatal(code, err)
	}

	before := n.BootID()
	if err := c.Reboot(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if n.Version() != "v1.14.1" {
		t.Errorf("version %s", n.Version())
	}
}

func TestInstallerFails(t *testing.T) {
	b := start(t, small)
	c := b.client("")
	b.arm("worker-1", "install-exit-code=7")

	name, err := b.pull(c, "worker-1", nextInstaller)
	if err != nil {
		t.Fatal(err)
	}

	if code, _, err := b.install(c, "worker-1", name); err != nil || code != 7 {
		t.Errorf("%d %v", code, err)
	}

	if d := b.node("worker-1").Dump(); d.Slots["B"].Version != "" || d.RebootPending {
		t.Errorf("slots %+v", d.Slots)
	}
}

func TestLegacyUpgrade(t *testing.T)       { legacyUpgrade(t, false) }
func TestLegacyStagedUpgrade(t *testing.T) { legacyUpgrade(t, true) }

func legacyUpgrade(t *testing.T, stage bool) {
	t.Helper()

	{
		b := start(t, func(o *testOptions) {
			o.ControlPlanes, o.Workers, o.TalosVersion = 3, 0, "v1.12.9"
		})
		c := b.client("")
		n := b.node("cp-2")
		before := n.BootID()

		_, err := c.MachineClient.Upgrade(b.on("cp-2"), &machineapi.UpgradeRequest{Image: nextInstaller, Stage: stage}) //nolint:staticcheck // what is tested
		if err != nil {
			t.Fatal(err)
		}

		b.until("the upgrade", func() bool { return n.Version() == "v1.14.2" && n.Ready() })

		boots := 2
		if stage {
			boots = 3
		}

		if got := len(n.Dump().History.Boots); got != boots {
			t.Errorf("stage %t: %d boots", stage, got)
		}

		if n.BootID() == before {
			t.Error("same boot")
		}
	}
}

func TestLegacyUpgradeGuardsEtcd(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.TalosVersion = 3, 0, "v1.13.8" })
	b.node("cp-3").PowerOff("test")

	_, err := b.client("").MachineClient.Upgrade(b.on("cp-2"), &machineapi.UpgradeRequest{Image: nextInstaller}) //nolint:staticcheck // what is tested
	if err == nil || !strings.Contains(err.Error(), "all members must be healthy to perform an upgrade") {
		t.Errorf("upgrade with a dead member: %v", err)
	}
}

func TestImagesThatDoNotExist(t *testing.T) {
	b := start(t, small)
	c := b.client("")

	for _, image := range []string{"ghcr.io/siderolabs/installer:v9.9.9", "ghcr.io/siderolabs/installer:v1.14.0", "example.com/nosuch:v1"} {
		if _, err := b.pull(c, "worker-1", image); status.Code(err) != codes.NotFound {
			t.Errorf("%s: %v", image, err)
		}
	}

	b.arm("worker-1", "registry-status=500")

	if _, err := b.pull(c, "worker-1", nextInstaller); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error") {
		t.Errorf("registry 500: %v", err)
	}
}

func TestDropAnswerExecutesThroughEndpoint(t *testing.T) { dropAnswer(t, "endpoint") }
func TestDropAnswerExecutesDirectly(t *testing.T)        { dropAnswer(t, "directly") }

func dropAnswer(t *testing.T, through string) {
	t.Helper()

	{
		b := start(t, small)
		c := b.client("")

		if through == "directly" {
			c = b.direct("worker-1")
		}

		n := b.node("worker-1")
		before := n.BootID()
		b.arm("worker-1", "drop-answer=Reboot")

		if err := c.Reboot(b.on("worker-1")); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", through, err)
		}

		b.rebooted("worker-1", before)

		counts := b.Requests.Snapshot("", func(string) bool { return true })
		if got := counts["worker-1"].Executed["machine.MachineService/Reboot"]; got != 1 {
			t.Errorf("%s: %d reboots executed", through, got)
		}
	}
}

func TestBlackHole(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	if _, err := c.Version(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.node("worker-1").API.Hang(true)

	asked := make(chan error, 1)

	go func() {
		_, err := c.Version(b.ctx)
		asked <- err
	}()

	select {
	case err := <-asked:
		t.Fatalf("a black hole answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}

	b.node("worker-1").API.Hang(false)

	if err := <-asked; err != nil {
		t.Errorf("after the hang: %v", err)
	}
}

func TestNothingListensWhileANodeReboots(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Boot = 500 * time.Millisecond })
	n := b.node("worker-1")
	before := n.BootID()

	if err := b.client("").Reboot(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.until("the node to go down", func() bool { return !n.Up() })

	if _, err := b.direct("worker-1").Version(b.ctx); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("while down: %v", err)
	}

	b.rebooted("worker-1", before)
}
