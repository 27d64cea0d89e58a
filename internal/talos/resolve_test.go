package talos

import (
	"net/netip"
	"slices"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	configmachine "github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/bufnode"
)

func TestTargetsAreWhoTheyAre(t *testing.T) {
	t.Parallel()

	st := state.WrapCore(namespaced.NewState(inmem.Build))

	for id, m := range map[string]struct {
		kind      configmachine.Type
		addresses []string
	}{
		"cp-1": {configmachine.TypeControlPlane, []string{"10.0.0.1", "fd00::1"}},
		"w-1":  {configmachine.TypeWorker, []string{"10.0.0.5"}},
	} {
		member := cluster.NewMember(cluster.NamespaceName, id)
		member.TypedSpec().NodeID, member.TypedSpec().Hostname, member.TypedSpec().MachineType = "id-"+id, id, m.kind

		for _, a := range m.addresses {
			member.TypedSpec().Addresses = append(member.TypedSpec().Addresses, netip.MustParseAddr(a))
		}

		if err := st.Create(t.Context(), member); err != nil {
			t.Fatal(err)
		}
	}

	// Whatever node is asked answers as cp-1.
	identity := cluster.NewIdentity(cluster.NamespaceName, cluster.LocalIdentity)
	identity.TypedSpec().NodeID = "id-cp-1"

	if err := st.Create(t.Context(), identity); err != nil {
		t.Fatal(err)
	}

	cc := bufnode.Serve(t, func(s *grpc.Server) { cosi.RegisterStateServer(s, server.NewState(st)) })

	c, err := NewCluster(nil, "test", conn.Options{Endpoints: []string{"10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}

	c.Keep("10.0.0.1", cc)

	for _, tt := range []struct {
		name  string
		nodes []string
		want  []string // Address, hostname and type.
	}{
		{"an address that the node does not announce", []string{"203.0.113.7"}, []string{"203.0.113.7 cp-1 controlplane"}},
		{"one node under several addresses", []string{"10.0.0.1", "fd00::1", "cp-1", "203.0.113.7"}, []string{"10.0.0.1 cp-1 controlplane"}},
		{"spellings of an address", []string{"[FD00:0::1]"}, []string{"fd00::1 cp-1 controlplane"}},
		{"two nodes", []string{"w-1", "10.0.0.1"}, []string{"10.0.0.1 cp-1 controlplane", "10.0.0.5 w-1 worker"}},
	} {
		got, err := c.Targets(t.Context(), target.Selection{Nodes: tt.nodes}, target.DefaultNone)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)

			continue
		}

		var have []string
		for _, n := range got.Nodes {
			have = append(have, n.Address+" "+n.Hostname+" "+n.Type)
		}

		if !slices.Equal(have, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, have, tt.want)
		}
	}
}
