package cmdutil_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

// TestChangeFindingHidesSecrets: a secret's value is in no annotation, whatever is printed elsewhere.
func TestChangeFindingHidesSecrets(t *testing.T) {
	t.Parallel()

	c := machineconfig.Change{Path: "machine.token", Op: "change", From: "old-token", To: "new-token", Secret: true}
	if got := cmdutil.ChangeFinding(c, "x", "f.yaml"); strings.Contains(got.Command(), "-token") || got.File != "f.yaml" {
		t.Errorf("got %s", got.Command())
	}

	for op, want := range map[string]string{machineconfig.Add: "+ a: 2", machineconfig.Remove: "- a: 1", "change": "~ a: 1 -> 2"} {
		if got := cmdutil.ChangeFinding(machineconfig.Change{Path: "a", Op: op, From: "1", To: "2"}, "x", "").Message; got != want {
			t.Errorf("%s: %q", op, got)
		}
	}
}

// TestGateFindings: only what refuses and what warns is a finding.
func TestGateFindings(t *testing.T) {
	t.Parallel()

	refused := gate.New("TM120", gate.Refuse, "cp-1", "1 of 3 voters")
	refused.Remedy = "bring back cp-3"

	got := cmdutil.GateFindings([]gate.Verdict{gate.New("TM121", gate.Pass, "", "fine"), refused, gate.New("TM138", gate.Warn, "", "2 s")})
	if len(got) != 2 || got[0].Command() != "::error title=TM120 cp-1::1 of 3 voters%0Abring back cp-3" || got[1].Command() != "::warning title=TM138::2 s" {
		t.Errorf("got %v", got)
	}
}
