package cluster_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// Two of the five recorded nodes are dead.
func TestFleet(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "assert.table", Args: []string{"assert", "-n", "10.5.0.2,10.5.0.5", `all(nodes, n, n.version == "v1.13.8")`, "size(nodes) == 3"}, Code: 3, Stderr: []string{"not true: size(nodes) == 3"}},
		{Name: "assert.unknown-field", Args: []string{"assert", "nodes.all(n, n.nope)"}, Code: 2, Stderr: []string{"no such key: nope"}},
		{Name: "assert.json", Args: []string{"assert", "-n", "10.5.0.2,10.5.0.5", `all(nodes, n, n.type == "worker")`, "size(nodes) == 2", "-o", "json"}, Code: 3},
		{Name: "describe.node", Args: []string{"describe", "node", "n1"}, Code: 4, Stderr: []string{"cannot fetch the kubeconfig"}},
		{Name: "describe.node.json", Args: []string{"describe", "node", "n4", "-o", "json"}, Code: 4},
		{Name: "describe.partial", Args: []string{"describe", "-n", "10.5.0.2,10.5.0.4"}, Code: 4},
		{Name: "state.diff", Args: []string{"state", "diff", "testdata/before.json", "testdata/after.json"}, Code: 3},
		{Name: "state.diff.json", Args: []string{"state", "diff", "testdata/before.json", "testdata/after.json", "-o", "json"}, Code: 3},
		{Name: "state.same.json", Args: []string{"state", "diff", "testdata/before.json", "testdata/before.json", "-o", "json"}},
		{Name: "wait.json", Args: []string{"wait", "--for=version=v1.13.8", "-n", "10.5.0.5", "-o", "json", "--query", ".result.seen"}},
		{Name: "wait.unknown", Args: []string{"wait", "--for=nope"}, Code: 2, Stderr: []string{`unknown condition "nope"`}},
	})
}
