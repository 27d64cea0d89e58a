package machineconfig

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// GateCluster holds a configuration against that of a node that runs (TM153). A machine that is given
// another cluster's configuration belongs to that one: nobody here can talk to it any more.
func GateCluster(want, have Config, address string) gate.Verdict {
	return gateCluster(clusterDiffers(want, have), address)
}

func gateCluster(differ []string, address string) gate.Verdict {
	if len(differ) == 0 {
		return gate.New(gate.ForeignConfig, gate.Pass, address, "the configuration has the cluster's own secrets and authorities")
	}

	return gate.New(gate.ForeignConfig, gate.Refuse, address, "the configuration is another cluster's: %s %s not what the cluster has",
		strings.Join(differ, ", "), isAre(len(differ))).
		WithRemedy("make it from this cluster's secrets (`talosmate gen config --with-secrets`), or take that of a node of the same type")
}

// gateSame is GateCluster for a node that is in the cluster: new tokens alone do not make it another one's.
func gateSame(want, have Config, address string) gate.Verdict {
	differ := clusterDiffers(want, have)
	other := slices.ContainsFunc(differ, func(path string) bool { return !strings.HasSuffix(path, ".token") })

	if len(differ) > 0 && !other {
		return gate.New(gate.ForeignConfig, gate.Warn, address, "the configuration changes the tokens with which machines join: all nodes need the same")
	}

	return gateCluster(differ, address)
}

// clusterDiffers names what identifies a cluster and differs.
func clusterDiffers(want, have Config) []string {
	secrets := [][]string{{"cluster", "id"}, {"cluster", "secret"}, {"cluster", "token"}, {"machine", "token"}, {"cluster", "ca", "crt"}}
	if want.Type() == target.ControlPlane {
		secrets = append(secrets, []string{"cluster", "etcd", "ca", "crt"}, []string{"cluster", "aggregatorCA", "crt"}, []string{"cluster", "serviceAccount", "key"})
	}

	var differ []string

	for _, path := range secrets {
		if want.At(path...) != have.At(path...) {
			differ = append(differ, strings.TrimSuffix(strings.Join(path, "."), ".crt"))
		}
	}

	// While the Talos CA is exchanged, nodes of either are the cluster's.
	trusted := append(have.Each("crt", "machine", "acceptedCAs"), have.At("machine", "ca", "crt"))
	if !slices.Contains(trusted, want.At("machine", "ca", "crt")) {
		differ = append(differ, "machine.ca")
	}

	return differ
}

// GateName refuses a hostname that another node has (TM158): Talos takes an etcd member of its own name for its own
// earlier self and removes it (Talos, internal/app/machined/pkg/system/services/etcd.go), Kubernetes takes both for one node, and
// discovery loses one of them. Discovery remembers nodes that are gone for a while; those do not count.
func GateName(ctx context.Context, name string, t talos.Target, members []talos.Member, alive func(context.Context, talos.Target) bool) gate.Verdict {
	for _, m := range members {
		if !strings.EqualFold(m.Hostname, name) || m.Target().Has(t.Address) || (t.ID != "" && m.NodeID == t.ID) {
			continue
		}

		if alive(ctx, m.Target()) {
			return gate.New(gate.NameTaken, gate.Refuse, t.Address, "the configuration names the machine %s, and the cluster has a node of that name at %s", name, m.Node).
				WithRemedy("give it another hostname; to exchange that node: talosmate node replace, or node remove first")
		}
	}

	return gate.New(gate.NameTaken, gate.Pass, t.Address, "no other node is called %s", name)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}

	return "are"
}
