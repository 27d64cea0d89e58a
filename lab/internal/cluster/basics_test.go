package cluster_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	configres "github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestReadsThroughAnEndpoint(t *testing.T) {
	b := start(t, nil)
	c := b.client("")

	version, err := c.Version(b.on("worker-1"))
	if err != nil {
		t.Fatal(err)
	}

	if tag := version.Messages[0].Version.Tag; tag != "v1.14.1" {
		t.Errorf("tag %s", tag)
	}

	members, err := safe.StateListAll[*cluster.Member](b.on("worker-2"), c.COSI)
	if err != nil {
		t.Fatal(err)
	}

	if members.Len() != 5 {
		t.Errorf("%d members", members.Len())
	}

	for m := range members.All() {
		if !strings.HasPrefix(m.TypedSpec().Addresses[0].String(), "127.") || m.TypedSpec().OperatingSystem != "Talos (v1.14.1)" {
			t.Errorf("member %s: %v", m.Metadata().ID(), m.TypedSpec())
		}
	}

	st, err := safe.StateGetByID[*runtime.MachineStatus](b.on("cp-2"), c.COSI, runtime.MachineStatusID)
	if err != nil {
		t.Fatal(err)
	}

	if st.TypedSpec().Stage != runtime.MachineStageRunning || !st.TypedSpec().Status.Ready {
		t.Errorf("machine status %v", st.TypedSpec())
	}

	nodename, err := safe.StateGetByID[*k8s.Nodename](b.on("cp-2"), c.COSI, k8s.NodenameID)
	if err != nil || !nodename.TypedSpec().SkipNodeRegistration {
		t.Errorf("nodename %v %v", nodename, err)
	}

	etcdMembers, err := c.EtcdMemberList(b.on("cp-3"), &machineapi.EtcdMemberListRequest{QueryLocal: true})
	if err != nil {
		t.Fatal(err)
	}

	if n := len(etcdMembers.Messages[0].Members); n != 3 {
		t.Errorf("%d etcd members", n)
	}

	boot := b.read(c, "worker-1", "/proc/sys/kernel/random/boot_id")
	if strings.TrimSpace(boot) != b.node("worker-1").BootID() {
		t.Errorf("boot ID %q", boot)
	}
}

func (b *bed) read(c *client.Client, node, path string) string {
	b.t.Helper()

	r, err := c.Read(b.on(node), path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck

	raw, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}

	return string(raw)
}

func TestSeveralNodesAreMerged(t *testing.T) {
	b := start(t, small)
	c := b.client("")

	b.node("worker-1").PowerOff("test")

	ctx := client.WithNodes(b.ctx, b.node("cp-1").Address.String(), b.node("worker-1").Address.String()) //nolint:staticcheck // what is tested

	resp, err := c.MachineClient.Hostname(ctx, &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}

	if len(resp.Messages) != 2 {
		t.Fatalf("%d messages", len(resp.Messages))
	}

	for _, m := range resp.Messages {
		switch m.Metadata.Hostname { //nolint:staticcheck // what is tested
		case b.node("cp-1").Address.String():
			if m.Hostname != "cp-1" {
				t.Errorf("hostname %q", m.Hostname)
			}
		default:
			if !strings.Contains(m.Metadata.Error, "no route to host") { //nolint:staticcheck // what is tested
				t.Errorf("error %q", m.Metadata.Error) //nolint:staticcheck // what is tested
			}
		}
	}
}

func TestRoles(t *testing.T) {
	b := start(t, small)
	denied := func(err error) bool {
		return status.Code(err) == codes.PermissionDenied && strings.Contains(err.Error(), "not authorized")
	}

	reader, operator, backup := b.client("-reader"), b.client("-operator"), b.client("-etcd-backup")

	if _, err := reader.Version(b.on("cp-1")); err != nil {
		t.Error(err)
	}

	if err := reader.Reboot(b.on("worker-1")); !denied(err) {
		t.Errorf("reader reboots: %v", err)
	}

	if _, err := backup.Version(b.on("cp-1")); !denied(err) {
		t.Errorf("etcd backup reads the version: %v", err)
	}

	_, err := safe.StateGetByID[*configres.MachineConfig](b.on("cp-1"), operator.COSI, configres.ActiveID)
	if !denied(err) {
		t.Errorf("operator reads the configuration: %v", err)
	}

	cfg, err := safe.StateGetByID[*configres.MachineConfig](b.on("cp-1"), b.client("").COSI, configres.ActiveID)
	if err != nil {
		t.Fatal(err)
	}

	if cfg.Provider().Machine().Type().String() != "controlplane" {
		t.Errorf("machine type %s", cfg.Provider().Machine().Type())
	}
}

func TestWrongCertificates(t *testing.T) {
	b := start(t, small)

	_, err := b.client("-foreign").Version(b.on("cp-1"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "x509: certificate signed by unknown authority") {
		t.Errorf("foreign: %v", err)
	}

	_, err = b.client("-expired").Version(b.on("cp-1"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
}

func TestWorkersDoNotForward(t *testing.T) {
	b := start(t, small)
	c := b.direct("worker-1")

	_, err := c.Version(b.on("cp-1"))
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "no request forwarding") {
		t.Errorf("forwarded: %v", err)
	}

	for _, ctx := range []string{"itself", "nobody"} {
		asked := b.ctx
		if ctx == "itself" {
			asked = b.on("worker-1")
		}

		if _, err := c.Version(asked); err != nil {
			t.Errorf("%s: %v", ctx, err)
		}
	}
}

func TestImageServiceByVersion(t *testing.T) {
	b := start(t, func(o *testOptions) {
		small(o)
		o.Mixed = map[string]string{"worker-1": "v1.12.9"}
	})
	c := b.client("")

	list := func(node string) error {
		stream, err := c.ImageClient.List(b.on(node), &machineapi.ImageServiceListRequest{
			Containerd: &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: common.ContainerdNamespace_NS_SYSTEM},
		})
		if err != nil {
			return err
		}

		for {
			if _, err = stream.Recv(); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}

				return err
			}
		}
	}

	if err := list("cp-1"); err != nil {
		t.Error(err)
	}

	if err := list("worker-1"); status.Code(err) != codes.Unimplemented {
		t.Errorf("1.12 has an image service: %v", err)
	}
}
