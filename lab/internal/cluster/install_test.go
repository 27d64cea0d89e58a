package cluster_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// beginInstall starts an installation and returns once the installer runs; cancel disconnects its client.
func (b *bed) beginInstall(c *client.Client, node, image string) (cancel context.CancelFunc) {
	b.t.Helper()

	name, err := b.pull(c, node, image)
	if err != nil {
		b.t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(b.on(node))

	if _, err := c.LifecycleClient.Upgrade(ctx, &machineapi.LifecycleServiceUpgradeRequest{
		Containerd: systemStore(), Source: &machineapi.InstallArtifactsSource{ImageName: name},
	}); err != nil {
		b.t.Fatal(err)
	}

	b.until("the installer", func() bool { return b.node(node).Dump().Installing })

	return cancel
}

// log reads a service's whole log.
func (b *bed) log(c *client.Client, node, service string) string {
	b.t.Helper()

	stream, err := c.Logs(b.on(node), "system", common.ContainerDriver_CONTAINERD, service, false, -1)
	if err != nil {
		b.t.Fatal(err)
	}

	var out strings.Builder

	for {
		data, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // the end of a stream is never wrapped
			return out.String()
		}

		if err != nil {
			b.t.Fatal(err)
		}

		out.Write(data.Bytes)
	}
}

func TestInstallOutlivesItsClient(t *testing.T) {
	for exit, want := range map[string]string{
		"": "upgrade completed successfully: exit_code=0\n", "install-exit-code=3": "upgrade failed: exit_code=3\n",
	} {
		t.Run(exit, func(t *testing.T) {
			b := start(t, func(o *testOptions) { small(o); o.Install = time.Second })
			c := b.client("")

			if exit != "" {
				b.arm("worker-1", exit)
			}

			b.beginInstall(c, "worker-1", nextInstaller)()

			if _, _, err := b.install(c, "worker-1", nextInstaller); status.Code(err) != codes.FailedPrecondition ||
				!strings.Contains(err.Error(), "another installation/upgrade is already in progress") {
				t.Errorf("second installation: %v", err)
			}

			pid, err := safe.StateGetByID[*runtime.ServicePID](b.on("worker-1"), c.COSI, "installer")
			if err != nil || pid.TypedSpec().PID == 0 {
				t.Errorf("process of the installer: %v %v", pid, err)
			}

			b.until("the end of the installation", func() bool { return !b.node("worker-1").Dump().Installing })
			b.until("its outcome in the log", func() bool { return strings.Contains(b.log(c, "worker-1", "machined"), want) })

			if _, err := safe.StateGetByID[*runtime.ServicePID](b.on("worker-1"), c.COSI, "installer"); !state.IsNotFoundError(err) {
				t.Errorf("process after the end: %v", err)
			}

			if d := b.node("worker-1").Dump(); d.RebootPending != (exit == "") || d.TornInstalls != 0 {
				t.Errorf("pending %t, torn %d", d.RebootPending, d.TornInstalls)
			}
		})
	}
}

func TestRebootTearsARunningInstallation(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Install = time.Minute })
	c := b.client("")
	n := b.node("worker-1")
	before := n.BootID()

	defer b.beginInstall(c, "worker-1", nextInstaller)()

	if err := c.Reboot(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	d := n.Dump()
	if d.Version != "v1.14.1" || !d.Slots["B"].Torn || d.TornInstalls != 1 || d.Installing {
		t.Errorf("version %s, slot %v, torn %d, installing %t", d.Version, d.Slots["B"], d.TornInstalls, d.Installing)
	}

	// the boot loader falls back from the half-written slot
	before = n.BootID()
	if err := b.direct("worker-1").Rollback(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if d := n.Dump(); d.RunningSlot != "A" || d.DefaultSlot != "A" {
		t.Errorf("running slot %s, default %s", d.RunningSlot, d.DefaultSlot)
	}
}

func TestPullEndsWithItsClient(t *testing.T) {
	b := start(t, small)
	c := b.client("")
	b.arm("worker-1", "pull-slow=1h")

	ctx, cancel := context.WithCancel(b.on("worker-1"))

	stream, err := c.ImageClient.Pull(ctx, &machineapi.ImageServicePullRequest{Containerd: systemStore(), ImageRef: nextInstaller})
	if err != nil {
		t.Fatal(err)
	}

	pulls := func(event string) bool {
		for _, n := range b.Timeline.Of("worker-1") {
			if n.Event == event {
				return true
			}
		}

		return false
	}

	b.until("the pull", func() bool { return pulls("pull") })
	cancel()

	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}

	b.until("the end of the pull", func() bool { return pulls("pull-broken-off") })
}
