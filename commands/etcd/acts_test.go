package etcd_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// Of the recorded cluster's three control planes one answers, so that the gates refuse; what was recorded of acts
// is seen with the overrides.
func TestActs(t *testing.T) {
	t.Parallel()

	const version = "talos-v1.13.9"

	override := []string{"--override", "TM120", "--override", "TM121"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "defrag.refused", Version: version, Args: []string{"etcd", "defrag", "-n", "n1"}, Code: 5, Stderr: []string{"TM120"}},
		{Name: "defrag.refused.json", Version: version, Args: []string{"etcd", "defrag", "-n", "n1", "-o", "json"}, Code: 5},
		{Name: "defrag.planned", Version: version, Args: append([]string{"etcd", "defrag", "-n", "n1", "-o", "wide", "--dry-run"}, override...)},
		{Name: "defrag.done.json", Version: version, Args: append([]string{"etcd", "defrag", "-n", "n1", "-o", "json"}, override...)},
		{Name: "disarm", Version: version, Args: []string{"etcd", "alarm", "disarm", "-n", "n1"}},
		{Name: "disarm.json", Version: version, Args: []string{"etcd", "alarm", "disarm", "-n", "n1", "-o", "json"}},
		{Name: "leave.refused.json", Version: version, Args: []string{"etcd", "leave", "-n", "n1", "-o", "json", "--dry-run"}, Code: 5, Stderr: []string{"TM120"}},
		{Name: "forfeit", Version: version, Args: []string{"etcd", "forfeit-leadership", "-n", "n1", "--dry-run"}},
		{Name: "remove.refused", Version: version, Args: []string{"etcd", "remove-member", "n1", "--dry-run"}, Code: 5, Stderr: []string{"TM120"}},
		{Name: "remove.unknown", Version: version, Args: []string{"etcd", "remove-member", "12345", "--dry-run"}, Code: 2, Stderr: []string{"members: "}},
		{
			Name: "downgrade.validate", Version: version, Args: []string{"etcd", "downgrade", "validate", "3.5", "-n", "n1"}, Code: 3,
			Stderr: []string{"one minor version at a time"},
		},
	})
}
