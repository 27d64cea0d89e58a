package talos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// maxSnapshot bounds the bytes of an etcd snapshot; etcd recommends at most 8 GiB.
const maxSnapshot = 64 << 30

// EtcdSnapshot streams a snapshot of the node's own member: the database file, followed by its SHA-256. A chunk is
// valid until fn returns. A stream that brings no data for the read timeout is given up. Roles: operator, admin,
// etcd:backup.
func (n *Node) EtcdSnapshot(ctx context.Context, fn func(chunk []byte) error) error {
	const op = "take an etcd snapshot"

	size := int64(0)

	return conn.Pull(ctx, n.Conn, op, n.Pool.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().EtcdSnapshot(ctx, &machine.EtcdSnapshotRequest{})
	}, func(m *common.Data) error {
		if size += int64(len(m.GetBytes())); size > maxSnapshot {
			return n.Exceeds(op, fmt.Errorf("the node sent more than %d GiB", maxSnapshot>>30))
		}

		return fn(m.GetBytes())
	})
}

// EtcdDefragment defragments the node's own member, which serves no requests meanwhile. Roles: operator, admin.
func (n *Node) EtcdDefragment(ctx context.Context) error {
	_, err := n.machine().EtcdDefragment(ctx, &emptypb.Empty{})

	return n.Fail("defragment etcd", err)
}

// EtcdAlarmDisarm disarms every active alarm of the cluster. Roles: operator, admin.
func (n *Node) EtcdAlarmDisarm(ctx context.Context) error {
	_, err := n.machine().EtcdAlarmDisarm(ctx, &emptypb.Empty{})

	return n.Fail("disarm the etcd alarms", err)
}

// EtcdRemoveMember removes a member by its ID; the node's member may be any other one. Role: admin.
func (n *Node) EtcdRemoveMember(ctx context.Context, id EtcdID) error {
	_, err := n.machine().EtcdRemoveMemberByID(ctx, &machine.EtcdRemoveMemberByIDRequest{MemberId: uint64(id)})

	return n.Fail("remove etcd member "+id.Hex(), err)
}

// EtcdLeave makes the node's member leave the cluster and removes its data. While etcd refuses because the cluster is
// unhealthy, the server retries for up to five minutes, so ctx must live longer. Role: admin.
func (n *Node) EtcdLeave(ctx context.Context) error {
	_, err := n.machine().EtcdLeaveCluster(ctx, &machine.EtcdLeaveClusterRequest{})

	return n.Fail("leave the etcd cluster", err)
}

// EtcdForfeitLeadership passes leadership to another member and returns that member's name, empty when the node is not
// the leader. Role: admin.
func (n *Node) EtcdForfeitLeadership(ctx context.Context) (string, error) {
	m, err := first(n.machine().EtcdForfeitLeadership(ctx, &machine.EtcdForfeitLeadershipRequest{}))

	return m.GetMember(), n.Fail("forfeit the etcd leadership", err)
}

// EtcdDowngradeValidate asks whether the cluster can be downgraded to a version (MAJOR.MINOR) and returns the cluster's
// present one. Role: admin.
func (n *Node) EtcdDowngradeValidate(ctx context.Context, version string) (string, error) {
	m, err := first(n.machine().EtcdDowngradeValidate(ctx, &machine.EtcdDowngradeValidateRequest{Version: version}))

	return m.GetClusterDowngrade().GetClusterVersion(), n.Fail("validate the etcd downgrade to "+version, err)
}

// EtcdDowngradeEnable allows the cluster to downgrade to a version (MAJOR.MINOR). Role: admin.
func (n *Node) EtcdDowngradeEnable(ctx context.Context, version string) (string, error) {
	m, err := first(n.machine().EtcdDowngradeEnable(ctx, &machine.EtcdDowngradeEnableRequest{Version: version}))

	return m.GetClusterDowngrade().GetClusterVersion(), n.Fail("enable the etcd downgrade to "+version, err)
}

// EtcdDowngradeCancel cancels an enabled downgrade. Role: admin.
func (n *Node) EtcdDowngradeCancel(ctx context.Context) (string, error) {
	m, err := first(n.machine().EtcdDowngradeCancel(ctx, &emptypb.Empty{}))

	return m.GetClusterDowngrade().GetClusterVersion(), n.Fail("cancel the etcd downgrade", err)
}

// EtcdDefaultQuota is etcd's default limit of the database size (etcd, server/storage/quota.go, DefaultQuotaBytes).
const EtcdDefaultQuota = 2 << 30

// EtcdQuota is the limit of the member's database size in bytes, from the machine configuration's etcd arguments.
// Roles: reader, operator, admin.
func (n *Node) EtcdQuota(ctx context.Context) (int64, error) {
	r, err := n.Resource(ctx, "etcd", "EtcdSpecs.etcd.talos.dev", "etcd")
	if err != nil {
		return 0, err
	}

	spec, err := Decode[struct {
		ExtraArgs map[string]any `json:"extraArgs"`
	}](r)
	if err != nil {
		return 0, n.Fail("read the etcd arguments", err)
	}

	value := lastArgument(spec.ExtraArgs["quota-backend-bytes"])
	if value == "" {
		return EtcdDefaultQuota, nil
	}

	quota, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, n.Fail("read the etcd quota", err)
	}

	if quota <= 0 { // etcd uses its default for zero
		quota = EtcdDefaultQuota
	}

	return quota, nil
}

// lastArgument returns the effective value of an argument: Talos up to 1.12 has one value, newer ones {values: […]}, of
// which the last wins.
func lastArgument(raw any) string {
	switch v := raw.(type) {
	case nil:
		return ""
	case map[string]any:
		return lastArgument(v["values"])
	case []any:
		if len(v) == 0 {
			return ""
		}

		return fmt.Sprint(v[len(v)-1])
	default:
		return fmt.Sprint(v)
	}
}

// Bootstrap makes the node's member the first of a new etcd cluster, from the uploaded snapshot if recover is set. Only
// the first request to any of the control planes succeeds: the second is "already exists". Role: admin.
func (n *Node) Bootstrap(ctx context.Context, recover, skipHashCheck bool) error { //nolint:predeclared // named as in Talos
	_, err := n.machine().Bootstrap(ctx, &machine.BootstrapRequest{RecoverEtcd: recover, RecoverSkipHashCheck: skipHashCheck})

	return n.Fail("bootstrap", err)
}

// uploadChunk is the size of one message of a snapshot upload.
const uploadChunk = 64 << 10

// UploadSnapshot sends an etcd snapshot to the node for a bootstrap. A second upload replaces the first. sent receives
// the number of bytes so far. Role: admin.
func (n *Node) UploadSnapshot(ctx context.Context, from io.Reader, sent func(int64)) error {
	const op = "upload the etcd snapshot"

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	stream, err := n.machine().EtcdRecover(ctx)
	if err != nil {
		return n.Fail(op, err)
	}

	buf, total := make([]byte, uploadChunk), int64(0)

	for {
		size, readErr := from.Read(buf)
		if size > 0 {
			if err = stream.Send(&common.Data{Bytes: buf[:size]}); err != nil {
				if errors.Is(err, io.EOF) {
					break // the node has ended the call; the answer has the reason
				}

				return n.Fail(op, err)
			}

			total += int64(size)
			sent(total)
		}

		if errors.Is(readErr, io.EOF) {
			break
		}

		if readErr != nil {
			return n.Fail(op, readErr)
		}
	}

	_, err = stream.CloseAndRecv()

	return n.Fail(op, err)
}
