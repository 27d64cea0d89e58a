package cluster_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// Each fault shows as it is meant to while it is armed, and is gone when it is cleared.
func TestFaultsOfTheNode(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	if _, err := b.pull(c, "worker-1", nextInstaller); err != nil { // for the installation that fails
		t.Fatal(err)
	}

	for _, f := range []struct {
		spec    string
		strikes func() (bool, error)
	}{
		{"loss=1", func() (bool, error) {
			_, err := b.direct("worker-1").Version(b.ctx)

			return status.Code(err) == codes.Unavailable, err
		}},
		{"pull-error=no route to the registry", func() (bool, error) {
			_, err := b.pull(c, "worker-1", nextInstaller)

			return err != nil && strings.Contains(err.Error(), "no route to the registry"), err
		}},
		// An hour would outlast the test: the pull ends with its caller and not before.
		{"pull-slow=1h", func() (bool, error) { return b.pullHangs(c) }},
		{"disk-full", func() (bool, error) {
			_, free := b.node("worker-1").Disk()
			code, out, err := b.install(c, "worker-1", nextInstaller)

			return free == 0 && code == 1 && strings.Contains(out, "no space left on device"), err
		}},
		{"clock-skew=5m", func() (bool, error) {
			got, err := c.Time(b.ctx)
			if err != nil {
				return false, err
			}

			ahead := time.Until(got.Messages[0].Localtime.AsTime())

			return ahead > 4*time.Minute && ahead <= 5*time.Minute, nil
		}},
		{"event-stream-dead=end", func() (bool, error) {
			err := b.lastEvent(b.ctx, c)

			return errors.Is(err, io.EOF), err
		}},
		{"event-stream-dead=hang", func() (bool, error) {
			ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
			defer cancel()

			err := b.lastEvent(ctx, c)

			return status.Code(err) == codes.DeadlineExceeded, err
		}},
	} {
		armed, err := faults.Parse(f.spec)
		if err != nil {
			t.Fatal(err)
		}

		b.node("worker-1").Faults.Arm(armed)

		if struck, err := f.strikes(); !struck {
			t.Errorf("%s does not show: %v", f.spec, err)
		}

		b.node("worker-1").Faults.Clear(armed.Name)

		if _, err := b.direct("worker-1").Version(b.ctx); err != nil {
			t.Errorf("after %s: %v", f.spec, err)
		}
	}
}

// pullHangs says whether a pull goes on until its caller has enough of it.
func (b *bed) pullHangs(c *client.Client) (bool, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()

	stream, err := c.ImageClient.Pull(ctx, &machineapi.ImageServicePullRequest{Containerd: systemStore(), ImageRef: nextInstaller})
	for err == nil {
		_, err = stream.Recv()
	}

	return status.Code(err) == codes.DeadlineExceeded, err
}

// lastEvent reads events to the stream's end. A dead stream has its greeting and nothing else.
func (b *bed) lastEvent(ctx context.Context, c *client.Client) error {
	stream, err := c.MachineClient.Events(ctx, &machineapi.EventsRequest{TailEvents: -1})

	for n := 0; err == nil; n++ {
		if _, err = stream.Recv(); err == nil && n > 0 {
			return errors.New("there are events")
		}
	}

	return err
}

// A request that is held is not executed, also not when its caller goes; an answer that is held is that of a
// request that was.
func TestFaultsHold(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	write := func() error {
		ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
		defer cancel()

		_, err := c.MachineClient.MetaWrite(ctx, &machineapi.MetaWriteRequest{Key: 12, Value: []byte("x")})

		return err
	}

	for _, f := range []struct {
		spec     string
		executed bool
	}{{"hold-request=MetaWrite", false}, {"hold-answer=MetaWrite", true}} {
		b.arm("worker-1", f.spec)

		if err := write(); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v", f.spec, err)
		}

		b.node("worker-1").Faults.Clear("")

		if _, err := b.direct("worker-1").Version(b.ctx); err != nil {
			t.Errorf("after %s: %v", f.spec, err)
		}

		if b.node("worker-1").DeleteMeta(12) != f.executed {
			t.Errorf("%s: executed %t", f.spec, !f.executed)
		}
	}
}

func TestFaultsOfTheBoot(t *testing.T) {
	b := start(t, small)
	n := b.node("worker-1")

	// An hour more than any test waits: the node is down, is powered, and comes up only when it is switched on.
	b.arm("worker-1", "slow-boot=1h")

	if err := b.direct("worker-1").Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.until("the node to go down", func() bool { return !n.Up() })

	if !n.Powered() {
		t.Error("a node that boots slowly has power")
	}

	n.Faults.Clear(faults.SlowBoot)
	n.PowerOff("test")
	n.PowerOn()
	b.until("the node to come back", n.Ready)

	b.arm("worker-1", "never-return")

	if err := b.direct("worker-1").Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.until("the node to be lost", func() bool { return !n.Up() && !n.Powered() })

	// It struck once: a node that is repaired comes back.
	n.PowerOn()
	b.until("the node to come back", n.Ready)
}

// A node without configuration shows its disks, and nothing on them.
func TestMaintenanceDisks(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Maintenance, o.Etcd = 1, 0, 1, false })

	volumes := func(c *client.Client) string {
		list, err := safe.StateListAll[*block.DiscoveredVolume](b.ctx, c.COSI)
		if err != nil {
			t.Fatal(err)
		}

		var out []string

		for v := range list.All() {
			if v.TypedSpec().Type == "disk" {
				out = append(out, v.Metadata().ID()+":"+v.TypedSpec().Name)
			}
		}

		return strings.Join(out, " ")
	}

	if got := volumes(b.insecure("new-1")); got != "sda: sdb:xfs" {
		t.Errorf("before the installation %q", got)
	}

	if got := volumes(b.direct("cp-1")); got != "sda:gpt sdb:xfs" {
		t.Errorf("after the installation %q", got)
	}
}

// What a node says of its schematic is what its ID is the hash of.
func TestSchematicOfANode(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.Preset = "factory" })

	list, err := safe.StateListAll[*runtime.ExtensionStatus](b.ctx, b.direct("worker-1").COSI)
	if err != nil {
		t.Fatal(err)
	}

	var names []string

	for e := range list.All() {
		m := e.TypedSpec().Metadata
		names = append(names, m.Name)

		if sum := sha256.Sum256([]byte(m.ExtraInfo)); m.Name == "schematic" && (m.Version != hex.EncodeToString(sum[:]) || m.Version != b.Options.Schematic) {
			t.Errorf("schematic %s with the text\n%s", m.Version, m.ExtraInfo)
		}
	}

	if slices.Sort(names); !slices.Equal(names, []string{"iscsi-tools", "schematic", "util-linux-tools"}) {
		t.Errorf("extensions %v", names)
	}
}
