package talos

import (
	"context"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ServerHealth runs the node's own health check of the cluster and passes on each message. Only control planes serve
// it. wait bounds how long the server waits for all conditions. Roles: reader, operator, admin.
func (n *Node) ServerHealth(ctx context.Context, wait time.Duration, message func(string)) error {
	const op = "run the server's health check"

	return read(ctx, n, op, terms{meter: &Meter{}}, func(ctx context.Context) (grpc.ServerStreamingClient[cluster.HealthCheckProgress], error) {
		return cluster.NewClusterServiceClient(n.conn).HealthCheck(ctx, &cluster.HealthCheckRequest{WaitTimeout: durationpb.New(wait)})
	}, func(p *cluster.HealthCheckProgress) error {
		message(p.GetMessage())

		return nil
	})
}
