package etcd_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// The recorded clusters have a third control plane (n3, 10.5.0.4) that was not recorded: it is the dead node.
func TestReads(t *testing.T) {
	t.Parallel()

	const unreachable = "cannot read the etcd status on 10.5.0.4 (n3)"

	clitest.Test(t, []clitest.Recorded{
		{Name: "members.table", Args: []string{"etcd", "members", "-n", "10.5.0.2,10.5.0.3"}},
		{Name: "members.json", Args: []string{"etcd", "members", "-n", "10.5.0.2", "-o", "json"}},
		{
			Name: "members.partial.wide", Args: []string{"etcd", "members", "-o", "wide"}, Code: 4,
			Stderr: []string{"on 10.5.0.4 (n3)", "no route to host"},
		},
		{Name: "members.name", Version: "talos-v1.13.9", Args: []string{"etcd", "members", "-n", "n1", "-o", "name"}},
		{
			Name: "members.worker.json", Args: []string{"etcd", "members", "-n", "10.5.0.5", "-o", "json", "--query", ".errors"}, Code: 1,
			Stderr: []string{"only available on control plane nodes", "hint: only control planes do this"},
		},
		{Name: "status.table", Args: []string{"etcd", "status", "-n", "n1,n2"}},
		{Name: "status.json", Args: []string{"etcd", "status", "-n", "n1,n2", "-o", "json"}},
		{Name: "status.missing.json", Args: []string{"etcd", "status", "-o", "json"}, Code: 3, Stderr: []string{unreachable}},
		{
			Name: "status.worker", Args: []string{"etcd", "status", "-n", "n1,n4"}, Code: 3,
			Stderr: []string{"etcd status is only available on control plane nodes"},
		},
		{
			Name: "status.backup", Roles: []string{"os:etcd:backup"}, Version: "talos-v1.13.9",
			Args: []string{"etcd", "status", "-n", "10.5.0.2", "-o", "yaml"},
		},
		{Name: "alarm.list.none", Args: []string{"etcd", "alarm", "list", "-n", "n1,n2"}},
		{Name: "alarm.list.none.json", Args: []string{"etcd", "alarm", "list", "-n", "n1", "-o", "json"}},
		{
			Name: "alarm.list.worker", Args: []string{"etcd", "alarm", "list", "-n", "10.5.0.5"}, Code: 1,
			Stderr: []string{"etcd alarm list is only available on control plane nodes"},
		},
	})
}

func TestRestorePlan(t *testing.T) {
	t.Parallel()

	const file, config = "testdata/snapshot.db", "testdata/controlplane.yaml"

	clitest.Test(t, []clitest.Recorded{
		{Name: "plan.table", Args: []string{"etcd", "restore-plan", file, "--config", config, "-n", "10.5.0.2,10.5.0.4"}},
		{Name: "plan.json", Args: []string{"etcd", "restore-plan", file, "--config", config, "-n", "n1", "-o", "json", "--query", ".result | del(.snapshot)"}},
		{Name: "plan.discovered", Args: []string{"etcd", "restore-plan", file, "--config", config, "-o", "json", "--query", ".result.nodes"}},
		{
			Name: "plan.wrong-key", Args: []string{"etcd", "restore-plan", file, "--config", "testdata/other-key.yaml", "-n", "10.5.0.2"}, Code: 3,
			Stderr: []string{"would not restore"},
		},
		{Name: "plan.no-node", Args: []string{"etcd", "restore-plan", file, "-n", "cp-9"}, Code: 2, Stderr: []string{"neither the cluster nor the snapshot lists"}},
		{Name: "plan.no-file", Args: []string{"etcd", "restore-plan", "none.db", "-n", "10.5.0.2"}, Code: 2, Stderr: []string{"none.db"}},
		{Name: "plan.bad-config", Args: []string{"etcd", "restore-plan", file, "--config", file}, Code: 2, Stderr: []string{"cannot read the encryption keys"}},
	})
}

// testdata/snapshot.db is the cluster of internal/ops/snapshot's tests, with a Secret for each of the two keys in
// controlplane.yaml. The keys are made up.
func TestVerifySnapshot(t *testing.T) {
	t.Parallel()

	const file, config = "testdata/snapshot.db", "testdata/controlplane.yaml"

	clitest.Test(t, []clitest.Recorded{
		{Name: "verify.table", Args: []string{"etcd", "verify-snapshot", file, "--config", config}},
		{Name: "verify.json", Args: []string{"etcd", "verify-snapshot", file, "--config", config, "-o", "json"}},
		{Name: "verify.no-keys", Args: []string{"etcd", "verify-snapshot", file}, Stderr: []string{"no keys were given, 2 encrypted objects not decrypted"}},
		{
			Name: "verify.wrong-key", Args: []string{"etcd", "verify-snapshot", file, "--config", "testdata/other-key.yaml"}, Code: 3,
			Stderr: []string{"would not restore: secrets (1): the key key2 of secretbox does not decrypt them"},
		},
		{Name: "verify.both", Args: []string{"etcd", "verify-snapshot", file, "--config", config, "-n", "n1"}, Code: 2, Stderr: []string{"choose one"}},
		{Name: "verify.no-config", Args: []string{"etcd", "verify-snapshot", file, "--config", file}, Code: 2, Stderr: []string{"cannot read the encryption keys"}},
		{Name: "verify.no-file", Args: []string{"etcd", "verify-snapshot", "none.db"}, Code: 2, Stderr: []string{"none.db"}},
	})
}
