package cluster_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// config gives a node's configuration as YAML.
func (b *bed) config(node string) string {
	b.t.Helper()

	raw, err := b.node(node).Config().Bytes()
	if err != nil {
		b.t.Fatal(err)
	}

	return string(raw)
}

func (b *bed) apply(c *client.Client, node, config string, mode machineapi.ApplyConfigurationRequest_Mode, dry bool) (*machineapi.ApplyConfiguration, error) {
	resp, err := c.ApplyConfiguration(b.on(node), &machineapi.ApplyConfigurationRequest{
		Data: []byte(config), Mode: mode, DryRun: dry, TryModeTimeout: durationpb.New(3 * time.Second),
	})
	if err != nil {
		return nil, err
	}

	return resp.Messages[0], nil
}

func TestApplyConfiguration(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.TalosVersion, o.Shutdown = "v1.13.8", 2*time.Second })
	c := b.client("")
	was := b.config("worker-1")
	sysctl := strings.Replace(was, "machine:\n", "machine:\n    sysctls:\n        vm.swappiness: \"1\"\n", 1)

	dry, err := b.apply(c, "worker-1", was, machineapi.ApplyConfigurationRequest_AUTO, true)
	if err != nil || dry.ModeDetails != "Dry run summary:\nApplied configuration without a reboot (skipped in dry-run).\nConfig diff:\n\nNo changes." {
		t.Errorf("dry run: %v %v", dry, err)
	}

	try, err := b.apply(c, "worker-1", sysctl, machineapi.ApplyConfigurationRequest_TRY, false)
	if err != nil || !strings.Contains(try.ModeDetails, "will be automatically reverted back in 3s") {
		t.Fatalf("try: %v %v", try, err)
	}

	if !strings.Contains(b.config("worker-1"), "swappiness") {
		t.Error("the configuration on trial does not run")
	}

	b.until("the configuration to be taken back", func() bool { return !strings.Contains(b.config("worker-1"), "swappiness") })

	staged, err := b.apply(c, "worker-1", sysctl, machineapi.ApplyConfigurationRequest_STAGED, false)
	if err != nil || staged.ModeDetails != "Staged configuration to be applied after the next reboot" || strings.Contains(b.config("worker-1"), "swappiness") {
		t.Errorf("staged: %v %v", staged, err)
	}

	before := b.node("worker-1").BootID()

	files := strings.Replace(was, "machine:\n", "machine:\n    env:\n        A: b\n", 1)
	applied, err := b.apply(c, "worker-1", files, machineapi.ApplyConfigurationRequest_AUTO, false)

	if err != nil || applied.Mode != machineapi.ApplyConfigurationRequest_REBOOT || !strings.Contains(applied.ModeDetails, "can't be applied in immediate mode") {
		t.Fatalf("auto: %v %v", applied, err)
	}

	if _, err := b.apply(c, "worker-1", was, machineapi.ApplyConfigurationRequest_STAGED, false); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("apply before the reboot: %v", err)
	}

	b.rebooted("worker-1", before)

	if !strings.Contains(b.config("worker-1"), "A: b") {
		t.Error("the reboot did not bring the configuration")
	}

	// the endpoint's own connection may still be waiting to try again
	c = b.direct("worker-1")

	for _, wrong := range []string{"", "machine:\n  nosuch: 1\n", "machine: [", "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: off\nhostname: x\n"} {
		if _, err := b.apply(c, "worker-1", wrong, machineapi.ApplyConfigurationRequest_NO_REBOOT, false); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// insecure connects without a certificate, as to a node in maintenance mode.
func (b *bed) insecure(node string) *client.Client {
	b.t.Helper()

	c, err := client.New(b.ctx, client.WithTLSConfig(&tls.Config{InsecureSkipVerify: true}), client.WithEndpoints(b.node(node).Address.String())) //nolint:gosec // what is tested
	if err != nil {
		b.t.Fatal(err)
	}

	b.t.Cleanup(func() { c.Close() }) //nolint:errcheck

	return c
}

func TestMaintenanceNodeJoinsAsControlPlane(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Maintenance = 3, 0, 1 })
	c := b.insecure("new-1")

	if _, err := c.Version(b.ctx); err != nil {
		t.Fatal(err)
	}

	if err := c.Reboot(b.ctx); status.Code(err) != codes.PermissionDenied {
		t.Errorf("reboot in maintenance mode: %v", err)
	}

	st, err := safe.StateGetByID[*runtime.MachineStatus](b.ctx, c.COSI, runtime.MachineStatusID)
	if err != nil || st.TypedSpec().Stage != runtime.MachineStageMaintenance {
		t.Fatalf("stage %v %v", st, err)
	}

	config := strings.Replace(b.config("cp-1"), "hostname: cp-1", "hostname: cp-4", 1)

	if _, err := c.ApplyConfiguration(b.ctx, &machineapi.ApplyConfigurationRequest{Data: []byte(config), Mode: machineapi.ApplyConfigurationRequest_AUTO}); err != nil {
		t.Fatal(err)
	}

	b.until("the new control plane to be a voter", func() bool {
		resp, err := b.client("").EtcdMemberList(b.on("cp-1"), &machineapi.EtcdMemberListRequest{})
		if err != nil || len(resp.Messages[0].Members) != 4 {
			return false
		}

		for _, m := range resp.Messages[0].Members {
			if m.IsLearner || m.Hostname == "" {
				return false
			}
		}

		return b.node("new-1").Ready()
	})

	if len(b.Peers()) != 4 {
		t.Errorf("%d members", len(b.Peers()))
	}

	if got, err := b.client("").Version(b.on("new-1")); err != nil || got.Messages[0].Version.Tag != "v1.14.1" {
		t.Errorf("%v %v", got, err)
	}
}

func TestBootstrap(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers, o.Unbootstrapped = 3, 1, true })
	c := b.client("")

	if err := c.Bootstrap(b.on("worker-1"), &machineapi.BootstrapRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("bootstrap of a worker: %v", err)
	}

	if err := c.Bootstrap(b.on("cp-1"), &machineapi.BootstrapRequest{}); err != nil {
		t.Fatal(err)
	}

	b.until("all to join", func() bool { return b.node("cp-1").Ready() && b.node("cp-2").Ready() && b.node("cp-3").Ready() })

	if err := c.Bootstrap(b.on("cp-1"), &machineapi.BootstrapRequest{}); status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "etcd data directory is not empty") {
		t.Errorf("second bootstrap: %v", err)
	}
}

// put writes a key through the first running member.
func (b *bed) put(key, value string) {
	b.t.Helper()

	client, err := b.node("cp-1").AnyEtcd(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck

	if _, err := client.Put(b.ctx, key, value); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) get(key string) string {
	b.t.Helper()

	client, err := b.node("cp-1").AnyEtcd(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck

	resp, err := client.Get(b.ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		b.t.Fatalf("get %s: %v %v", key, resp, err)
	}

	return string(resp.Kvs[0].Value)
}

func (b *bed) reset(c *client.Client, node string, graceful, reboot bool, labels ...string) {
	b.t.Helper()

	req := &machineapi.ResetRequest{Graceful: graceful, Reboot: reboot}
	for _, label := range labels {
		req.SystemPartitionsToWipe = append(req.SystemPartitionsToWipe, &machineapi.ResetPartitionSpec{Label: label, Wipe: true})
	}

	if err := c.ResetGeneric(b.on(node), req); err != nil {
		b.t.Fatal(err)
	}
}

func TestDisasterRecovery(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0 })
	c := b.client("")
	b.put("precious", "kept")

	stream, err := c.EtcdSnapshot(b.on("cp-2"), &machineapi.EtcdSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}

	snapshot, err := io.ReadAll(stream)
	if err != nil || len(snapshot)%512 != 32 {
		t.Fatalf("snapshot of %d bytes: %v", len(snapshot), err)
	}

	for _, name := range []string{"cp-3", "cp-2", "cp-1"} {
		before := b.node(name).BootID()
		b.reset(b.direct(name), name, false, true, "EPHEMERAL")
		b.until(name+" to come back", func() bool { return b.node(name).BootID() != before && b.node(name).Up() })
	}

	// connections made before the reboots may still be waiting to try again
	c = b.direct("cp-1")

	if _, err := c.EtcdRecover(b.ctx, bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}

	if err := c.Bootstrap(b.ctx, &machineapi.BootstrapRequest{RecoverEtcd: true}); err != nil {
		t.Fatal(err)
	}

	b.until("all members", func() bool { return b.node("cp-1").Ready() && b.node("cp-2").Ready() && b.node("cp-3").Ready() })

	if got := b.get("precious"); got != "kept" {
		t.Errorf("value %q", got)
	}
}

func TestResetToMaintenanceMode(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0 })
	c := b.client("")

	b.reset(c, "cp-3", true, true, "STATE", "EPHEMERAL")
	b.until("maintenance mode", func() bool { return b.node("cp-3").Maintenance() && b.node("cp-3").Up() })

	resp, err := c.EtcdMemberList(b.on("cp-1"), &machineapi.EtcdMemberListRequest{})
	if err != nil || len(resp.Messages[0].Members) != 2 {
		t.Errorf("members %v %v", resp, err)
	}

	if _, err := b.insecure("cp-3").Version(b.ctx); err != nil {
		t.Error(err)
	}

	b.reset(c, "cp-2", false, false, "STATE", "EPHEMERAL")
	b.until("no power", func() bool { return !b.node("cp-2").Powered() })
}

func TestResetRefusals(t *testing.T) {
	b := start(t, small)
	c := b.client("")

	for want, req := range map[string]*machineapi.ResetRequest{
		"doesn't support UserDisksToWipe":         {Mode: machineapi.ResetRequest_SYSTEM_DISK, UserDisksToWipe: []string{"/dev/sdb"}},
		"doesn't support SystemPartitionsToWipe":  {Mode: machineapi.ResetRequest_USER_DISKS, SystemPartitionsToWipe: []*machineapi.ResetPartitionSpec{{Label: "STATE", Wipe: true}}},
		"device /dev/sda is the system disk":      {UserDisksToWipe: []string{"/dev/sda"}},
		"device /dev/sdx wasn't found":            {UserDisksToWipe: []string{"/dev/sdx"}},
		"failed to get volume status with label ": {SystemPartitionsToWipe: []*machineapi.ResetPartitionSpec{{Label: "NOSUCH", Wipe: true}}},
	} {
		if err := c.ResetGeneric(b.on("worker-1"), req); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestShutdown(t *testing.T) {
	b := start(t, small)

	if err := b.client("").Shutdown(b.on("worker-1")); err != nil {
		t.Fatal(err)
	}

	b.until("no power", func() bool { return !b.node("worker-1").Powered() })

	_, err := b.client("").Version(b.on("worker-1"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("a dead node through an endpoint: %v", err)
	}

	b.node("worker-1").PowerOn()
	b.until("the node", func() bool { return b.node("worker-1").Ready() })
}

func TestEtcdActs(t *testing.T) {
	b := start(t, func(o *testOptions) { o.ControlPlanes, o.Workers = 3, 0 })
	c := b.client("")

	leader := ""

	for _, m := range b.Members() {
		if l, self, err := m.Etcd.Leader(); err == nil && l == self {
			leader = m.Name
		}
	}

	resp, err := c.EtcdForfeitLeadership(b.on(leader), &machineapi.EtcdForfeitLeadershipRequest{})
	if err != nil || resp.Messages[0].Member == "" || resp.Messages[0].Member == leader {
		t.Errorf("forfeit: %v %v", resp, err)
	}

	if err := c.EtcdRemoveMemberByID(b.on("cp-1"), &machineapi.EtcdRemoveMemberByIDRequest{MemberId: 12345}); status.Code(err) != codes.NotFound {
		t.Errorf("remove: %v", err)
	}

	if _, err := c.EtcdDefragment(b.on("cp-2")); err != nil {
		t.Errorf("defragment: %v", err)
	}

	if err := c.EtcdLeaveCluster(b.on("cp-3"), &machineapi.EtcdLeaveClusterRequest{}); err != nil {
		t.Fatalf("leave: %v", err)
	}

	list, err := c.EtcdMemberList(b.on("cp-1"), &machineapi.EtcdMemberListRequest{})
	if err != nil || len(list.Messages[0].Members) != 2 {
		t.Errorf("members %v %v", list, err)
	}
}

func TestLogsAndFilesOfAnySize(t *testing.T) {
	b := start(t, small)
	c := b.client("")
	b.node("worker-1").LogWriter("kubelet").Generate(100_000)

	stream, err := c.Logs(b.on("worker-1"), "system", common.ContainerDriver_CONTAINERD, "kubelet", false, 3)
	if err != nil {
		t.Fatal(err)
	}

	lines := 0

	for {
		data, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			t.Fatal(err)
		}

		lines += bytes.Count(data.Bytes, []byte("\n"))
	}

	if lines != 3 {
		t.Errorf("%d lines", lines)
	}

	b.node("worker-1").Files().Generate("/var/log/big", 10<<20)

	r, err := c.Copy(b.on("worker-1"), "/var/log/big")
	if err != nil {
		t.Fatal(err)
	}

	if n, err := io.Copy(io.Discard, r); err != nil || n == 0 {
		t.Errorf("%d %v", n, err)
	}
}
