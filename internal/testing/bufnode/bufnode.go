// Package bufnode serves a node's API in memory.
package bufnode

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// Serve returns a connection to a node whose services are the given ones. Both end with the test.
func Serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()

	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	register(srv)

	go func() { _ = srv.Serve(l) }() // ends with Stop

	t.Cleanup(srv.Stop)

	cc, err := grpc.NewClient("passthrough:///node", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = cc.Close() })

	return cc
}
