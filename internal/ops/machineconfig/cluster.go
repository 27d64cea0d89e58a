package machineconfig

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
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

// clusterDiffers names what identifies a cluster and differs, in either form of a configuration.
func clusterDiffers(want, have Config) []string {
	same := []place{
		{"cluster.id", "DiscoveryIdentityConfig", "clusterID"},
		{"cluster.secret", "DiscoveryIdentityConfig", "clusterSecret"},
		{"cluster.token", "", ""},
		{"machine.token", "", ""},
	}
	trust := []trusted{
		{"cluster.ca", place{"cluster.ca.crt", "KubeAPIServerCAConfig", "issuingCA.cert"}, place{"cluster.acceptedCAs.*.crt", "KubeAPIServerCAConfig", "acceptedCAs.*"}},
		// while the Talos CA is exchanged, nodes of either are the cluster's
		{"machine.ca", place{"machine.ca.crt", "", ""}, place{"machine.acceptedCAs.*.crt", "", ""}},
	}

	if want.Type() == target.ControlPlane {
		same = append(same, place{"cluster.etcd.ca.crt", "", ""}, place{"cluster.serviceAccount.key", "KubeServiceAccountConfig", "issuer.privateKey"})
		trust = append(trust, trusted{
			"cluster.aggregatorCA", place{"cluster.aggregatorCA.crt", "KubeAggregatorCAConfig", "issuingCA.cert"}, place{"", "KubeAggregatorCAConfig", "acceptedCAs.*"},
		})
	}

	var differ []string

	for _, p := range same {
		if !slices.Equal(want.values(p), have.values(p)) {
			differ = append(differ, strings.TrimSuffix(p.v1alpha1, ".crt"))
		}
	}

	for _, t := range trust {
		ours, theirs := append(want.values(t.own), want.values(t.accepted)...), append(have.values(t.own), have.values(t.accepted)...)
		if len(ours) != 0 && !slices.Contains(theirs, ours[0]) || len(ours) == 0 && len(theirs) != 0 {
			differ = append(differ, t.name)
		}
	}

	return differ
}

// trusted is an authority: its own certificate, and others that are accepted beside it.
type trusted struct {
	name          string
	own, accepted place
}

// place is where the two forms of a configuration have the same thing: a dotted path in the v1alpha1 document, and a
// kind and a path in the kind's document. * is each element of a list; a form that has no place for it has "".
type place struct{ v1alpha1, kind, path string }

// values are the scalars at a place, of whichever form has them; PEM is the same in base64.
func (c Config) values(p place) []string {
	var out []string

	for _, d := range c.Documents {
		path := p.path
		if d.Kind == mainKind {
			path = p.v1alpha1
		} else if d.Kind != p.kind {
			path = ""
		}

		if path == "" {
			continue
		}

		foreign.Walk(d.body(), strings.Split(path, "."), func(_, value *yaml.Node) {
			if value.Kind == yaml.ScalarNode && value.Value != "" {
				out = append(out, plainPEM(value.Value))
			}
		})
	}

	return out
}

// Value is the first scalar of a configuration at a dotted path of the v1alpha1 document, or at a path of a kind's
// document, whichever the configuration has.
func (c Config) Value(v1alpha1, kind, path string) string {
	if found := c.values(place{v1alpha1, kind, path}); len(found) > 0 {
		return found[0]
	}

	return ""
}

// plainPEM takes PEM out of base64, as v1alpha1 has it, and its surrounding space away.
func plainPEM(text string) string {
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && bytes.HasPrefix(bytes.TrimSpace(raw), []byte("-----BEGIN ")) {
		text = string(raw)
	}

	return strings.TrimSpace(text)
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
