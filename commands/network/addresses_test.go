package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestAddresses(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "addresses.table", Args: []string{"network", "addresses", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "addresses.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "addresses", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "addresses.wide", Args: []string{"network", "addresses", "-n", "n4", "-o", "wide"}},
		{Name: "addresses.json", Args: []string{"network", "addresses", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "addresses.json.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"network", "addresses", "-n", "10.5.0.5", "-o", "json"},
		},
		{Name: "addresses.name", Args: []string{"network", "addresses", "-n", "n4", "-o", "name"}},
		{
			Name: "addresses.partial",
			Args: []string{"network", "addresses", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list AddressStatuses.net.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "addresses.dead",
			Args: []string{"network", "addresses", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list AddressStatuses.net.talos.dev on 10.5.0.6`},
		},
		{Name: "addresses.link-local", Args: []string{"network", "addresses", "-n", "n1", "--link-local"}},
	})
}
