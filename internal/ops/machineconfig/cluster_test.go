package machineconfig

import (
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/gate"
)

// generated is a cluster's configuration for a type of machine, in the form of a release.
func generated(t *testing.T, bundle *secrets.Bundle, kind machine.Type, contract *config.VersionContract) Config {
	t.Helper()

	input, err := generate.NewInput("c", "https://10.0.0.1:6443", "1.35.4", generate.WithSecretsBundle(bundle), generate.WithVersionContract(contract))
	if err != nil {
		t.Fatal(err)
	}

	cfg, err := input.Config(kind)
	if err != nil {
		t.Fatal(err)
	}

	text, err := cfg.Bytes()
	if err != nil {
		t.Fatal(err)
	}

	out, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// A cluster is the same in both forms of a configuration, and another one is another in both.
func TestGateClusterInBothForms(t *testing.T) {
	t.Parallel()

	forms := map[string]*config.VersionContract{"v1alpha1": config.TalosVersion1_13, "documents": config.TalosVersion1_14}

	bundle := func() *secrets.Bundle {
		b, err := secrets.NewBundle(secrets.NewClock(), config.TalosVersion1_13)
		if err != nil {
			t.Fatal(err)
		}

		return b
	}

	ours, theirs := bundle(), bundle()

	for wantForm, want := range forms {
		for haveForm, have := range forms {
			for _, kind := range []machine.Type{machine.TypeControlPlane, machine.TypeWorker} {
				for name, c := range map[string]struct {
					bundle *secrets.Bundle
					want   gate.Outcome
				}{"own": {ours, gate.Pass}, "foreign": {theirs, gate.Refuse}} {
					v := GateCluster(generated(t, c.bundle, kind, want), generated(t, ours, kind, have), "10.0.0.4")
					if v.Verdict != c.want {
						t.Errorf("%s, %s in %s against %s: %s: %s", name, kind, wantForm, haveForm, v.Verdict, v.Message)
					}

					if c.want == gate.Refuse && (!strings.Contains(v.Message, "cluster.id") || !strings.Contains(v.Message, "cluster.ca")) {
						t.Errorf("%s, %s in %s against %s does not name what differs: %s", name, kind, wantForm, haveForm, v.Message)
					}
				}
			}
		}
	}
}
