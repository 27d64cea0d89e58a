package talos

import (
	"context"
	"slices"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// LogRequest selects a log and how to read it.
type LogRequest struct {
	ID         string        // A service, or a Kubernetes container as the node names it.
	Kubernetes bool          // ID names a container of the k8s.io namespace.
	Tail       int           // How many of the last lines, negative for all.
	Follow     bool          // Continue as the log grows.
	Idle       time.Duration // How long the node may be silent, 0 for no limit.
}

// Logs streams a log as the node sends it, in chunks of any size. Roles: reader, operator, admin.
func (n *Node) Logs(ctx context.Context, r LogRequest, fn func([]byte) error) error {
	req := &machine.LogsRequest{
		Id: r.ID, Namespace: constants.SystemContainerdNamespace, Driver: common.ContainerDriver_CONTAINERD,
		Follow: r.Follow, TailLines: int32(max(min(r.Tail, 1<<30), -1)),
	}

	if r.Kubernetes {
		req.Namespace, req.Driver = constants.K8sContainerdNamespace, common.ContainerDriver_CRI
	}

	return conn.Pull(ctx, n.Conn, "read the log of "+r.ID, r.Idle, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Logs(ctx, req)
	}, func(d *common.Data) error { return fn(d.GetBytes()) })
}

// LogIDs lists the services that have a log, sorted. Roles: reader, operator, admin.
func (n *Node) LogIDs(ctx context.Context) ([]string, error) {
	m, err := first(n.machine().LogsContainers(ctx, &emptypb.Empty{}))
	if err != nil {
		return nil, n.Fail("list the logs", err)
	}

	ids := slices.Clone(m.GetIds())
	slices.Sort(ids)

	return ids, nil
}

// Dmesg streams the kernel's messages, with those of Talos among them. Roles: reader, operator, admin.
func (n *Node) Dmesg(ctx context.Context, follow bool, idle time.Duration, fn func([]byte) error) error {
	return conn.Pull(ctx, n.Conn, "read the kernel log", idle, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Dmesg(ctx, &machine.DmesgRequest{Follow: follow})
	}, func(d *common.Data) error { return fn(d.GetBytes()) })
}
