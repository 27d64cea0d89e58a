package join

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// gateCluster holds a configuration against that of a control plane that runs. A machine that is given
// another cluster's configuration belongs to that one: nobody here can talk to it any more.
func gateCluster(want, have machineconfig.Config, address string) gate.Verdict {
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

	if len(differ) == 0 {
		return gate.New(gate.ForeignConfig, gate.Pass, address, "the configuration has the cluster's own secrets and authorities")
	}

	return gate.New(gate.ForeignConfig, gate.Refuse, address, "the configuration is another cluster's: %s %s not what the cluster has",
		strings.Join(differ, ", "), isAre(len(differ))).
		WithRemedy("make it from this cluster's secrets (`talosmate gen config --with-secrets`), or take that of a node of the same type")
}

// checkName refuses a hostname that a node has already: Talos takes an etcd member of its own name for its own
// earlier self and removes it (Talos, internal/app/machined/pkg/system/services/etcd.go), and Kubernetes would
// take both for one node. Discovery remembers nodes that are gone for a while; those do not count.
func (j *join) checkName(ctx context.Context) error {
	name := j.config.Hostname()
	if name == "" || name == j.instead {
		return nil
	}

	for _, m := range j.m.Members {
		if m.Hostname != name || m.Target().Has(j.Target.Address) {
			continue
		}

		if j.m.Alive(ctx, m.Target()) {
			return errs.Usagef("the configuration names the machine %s, and the cluster has a node of that name at %s", name, m.Node).
				WithHint("give it another hostname; to exchange that node: talosmate node replace, or node remove first")
		}
	}

	return nil
}

// gateName refuses the name of an etcd member that is down: the machine would remove it automatically, with no
// look at quorum.
func (j *join) gateName(v etcd.View) error {
	name := j.config.Hostname()

	for _, m := range v.Members {
		if name != "" && name != j.instead && m.Name == name && m.Node != j.Target.Address {
			return errs.Usagef("the configuration names the machine %s, and etcd has a member of that name on %s", name, m.Node).
				WithHint("to exchange that node: talosmate node replace")
		}
	}

	return nil
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}

	return "are"
}
