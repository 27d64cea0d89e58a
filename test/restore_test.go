package test

import (
	"fmt"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/talos"
)

// TestRestorePlanCommands reads every command line that a plan can have as the command line does: each command, flag and
// argument exists.
func TestRestorePlanCommands(t *testing.T) {
	t.Parallel()

	node := func(n int, answers bool, wipe string) snapshot.RestoreNode {
		return snapshot.RestoreNode{NodeRef: talos.NodeRef{Node: fmt.Sprintf("10.0.0.%d", n)}, Answers: answers, Wipe: wipe}
	}
	seen := map[string]bool{}

	for _, view := range []etcd.View{{}, {Known: true, Members: []etcd.Member{{ID: "1", Healthy: true}}}} {
		for _, hash := range []string{snapshot.HashVerified, snapshot.HashNone} {
			s := snapshot.NewSurvey(nil)
			s.View, s.Nodes = view, []snapshot.RestoreNode{node(1, true, talos.Ephemeral), node(2, true, talos.Etcd), node(3, false, talos.Ephemeral)}

			r := snapshot.Report{Restorable: true, HashState: hash, Encryption: []snapshot.Encryption{{Status: snapshot.StatusUnchecked, Objects: 1}}}
			r.Path = "it's a backup.db"

			for _, step := range s.Plan(r, "--context", "prod cluster", "--talosconfig", "tc", "--endpoints", "10.0.0.1,10.0.0.2").Steps {
				seen[step.Command] = true

				parseShell(t, step.Title, step.Command)
			}
		}
	}

	if len(seen) < 16 {
		t.Errorf("%d command lines", len(seen))
	}
}
