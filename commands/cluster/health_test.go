package cluster_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestHealth(t *testing.T) {
	t.Parallel()

	// The table depends on how fast the answers come.
	const row = `.result.checks[] | .status + " " + .id + " " + .hostname + " " + .message`

	clitest.Test(t, []clitest.Recorded{
		// Two of the five recorded nodes were not recorded: for the client they are dead.
		{
			Name: "health.dead-nodes.json", Args: []string{"health", "--scope", "etcd", "-o", "json", "--skip", "talos-certificate"}, Code: 3,
			Stderr: []string{"the cluster is not healthy"},
		},
		{Name: "health.only", Args: []string{"health", "--only", "talos-services", "-n", "n1,n2,n4", "--query", row}},
		{Name: "health.1.13.9", Version: "talos-v1.13.9", Args: []string{"health", "--only", "talos-stage,kubelet", "-n", "n1,n4", "--query", row}, Code: 3},
		{
			Name: "health.reader.kubernetes", Roles: []string{"os:reader"}, Code: 6,
			Stderr: []string{"not authorized to fetch a kubeconfig"},
			Args:   []string{"health", "--only", "kubernetes-api,kubernetes-nodes", "--query", ".result.checks[] | .id + \" \" + .status"},
		},
		{Name: "health.unknown-check", Args: []string{"health", "--only", "nosuch"}, Code: 2, Stderr: []string{"unknown check"}},
		{Name: "health.unknown-scope", Args: []string{"health", "--scope", "all"}, Code: 2, Stderr: []string{"unknown --scope"}},
		{
			Name: "health.server.json", Args: []string{"health", "--server", "-n", "n1", "-o", "json"}, Code: 3,
			Stderr: []string{"ok etcd to be healthy", "fail all control plane static pods to be running"},
		},
		{Name: "health.server.1.13.9", Version: "talos-v1.13.9", Args: []string{"health", "--server", "-n", "n1"}, Code: 3},
		{Name: "health.server.worker", Args: []string{"health", "--server", "-n", "n4", "-o", "json"}, Code: 1},
	})
}
