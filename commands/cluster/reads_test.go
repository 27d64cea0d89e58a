package cluster_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestVersion(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "version.short", Args: []string{"version", "-n", "10.5.0.2", "--short", "-o", "wide", "--query", ".items[].tag"}},
		{Name: "version.json", Version: "talos-v1.13.9", Args: []string{"version", "-n", "10.5.0.2,10.5.0.5", "-o", "json"}},
		{
			Name: "version.partial", Args: []string{"version", "-o", "json", "--query", ".items | length"}, Code: 4,
			Stderr: []string{"cannot read the version on 10.5.0.4 (n3)"},
		},
	})
}

func TestMembers(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "members.table", Args: []string{"members"}},
		{Name: "members.wide", Version: "talos-v1.13.9", Args: []string{"members", "-o", "wide", "--sort-by", "hostname"}},
		{Name: "members.json", Args: []string{"members", "-o", "json"}},
		{Name: "members.name", Args: []string{"members", "-o", "name"}},
		{
			Name: "members.probe", Args: []string{"members", "--probe"}, Code: 4,
			Stderr: []string{"cannot read the version on 10.5.0.6 (n5)"},
		},
	})
}

func TestGet(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "get.table", Args: []string{"get", "members", "-n", "n1"}},
		{Name: "get.json", Args: []string{"get", "machinestatus", "machine", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "get.alias.yaml", Args: []string{"get", "Nodenames.kubernetes.talos", "-n", "n4", "-o", "yaml"}},
		{Name: "get.several-nodes", Args: []string{"get", "addresses", "-n", "n1,n4", "-o", "wide"}},
		{Name: "get.default-namespace", Args: []string{"get", "hostnamestatus", "-n", "n1", "--query", ".items[].metadata.namespace"}},
		{Name: "get.namespace", Args: []string{"get", "hostnamestatus", "-n", "n1", "--namespace", "network-config", "-o", "json", "--query", ".items"}},
		{Name: "get.all-members", Args: []string{"get", "hostnamestatus", "--query", ".items[].hostname"}, Code: 4},
		{Name: "get.rd.count", Args: []string{"get", "rd", "--query", ".items | length"}},
		{
			Name: "get.unknown-type", Args: []string{"get", "nosuch", "-n", "n1", "-o", "json", "--query", ".errors"}, Code: 2,
			Stderr: []string{`no resource type is called "nosuch"`, "talosmate get rd"},
		},
		{Name: "get.not-found", Args: []string{"get", "members", "n9", "-n", "n1", "-o", "json"}, Code: 1},
		{
			Name: "get.sensitive", Roles: []string{"os:reader"}, Args: []string{"get", "apiserverconfig"}, Code: 6,
			Stderr: []string{"not authorized", "the certificate has os:reader"},
		},
	})
}
