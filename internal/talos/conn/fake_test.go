package conn

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/bufnode"
)

// fakeNode is the connection for a node whose services are the given ones.
func fakeNode(t *testing.T, register func(*grpc.Server)) *Conn {
	t.Helper()

	return emptyPool(t).Over(target.Target{Address: "10.0.0.1", Hostname: "n1"}, bufnode.Serve(t, register), nil)
}

// emptyPool is a pool without connections.
func emptyPool(t *testing.T) *Pool {
	t.Helper()

	p, err := NewPool(nil, "test", Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}

	return p
}
