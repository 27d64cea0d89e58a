package talos

import (
	"context"
	"net"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// fakeNode is a node whose services are the given ones.
func fakeNode(t *testing.T, register func(*grpc.Server)) *Node {
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

	c, err := NewCluster(nil, "test", Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}

	return c.newNode(Target{Address: "10.0.0.1", Hostname: "n1"}, cc, nil)
}

// nodeWith is a node that holds the given resources, as Talos would serve them.
func nodeWith(t *testing.T, resources ...resource.Resource) *Node {
	t.Helper()

	st := state.WrapCore(namespaced.NewState(inmem.Build))

	for _, r := range resources {
		if err := st.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}

	return fakeNode(t, func(s *grpc.Server) { cosi.RegisterStateServer(s, server.NewState(st)) })
}
