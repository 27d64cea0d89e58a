package talos

import (
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/testing/bufnode"
)

// fakeNode is a node whose services are the given ones.
func fakeNode(t *testing.T, register func(*grpc.Server)) *Node {
	t.Helper()

	return nodeOver(t, bufnode.Serve(t, register))
}

// nodeOver is a node at the other end of a connection.
func nodeOver(t *testing.T, cc *grpc.ClientConn) *Node {
	t.Helper()

	pool, err := conn.NewPool(nil, "test", conn.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}

	return &Node{pool.Over(Target{Address: "10.0.0.1", Hostname: "n1"}, cc, nil)}
}

// nodeWith is a node that holds the given resources, as Talos would serve them.
func nodeWith(t *testing.T, resources ...resource.Resource) *Node {
	t.Helper()

	st := state.WrapCore(namespaced.NewState(inmem.Build))

	for _, r := range resources {
		if err := st.Create(t.Context(), r.DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}

	return fakeNode(t, func(s *grpc.Server) { cosi.RegisterStateServer(s, server.NewState(st)) })
}
