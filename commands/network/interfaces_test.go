package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestInterfaces(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "interfaces.table", Args: []string{"network", "interfaces", "-n", "10.5.0.2,10.5.0.5"}},
		{
			Name: "interfaces.table.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"network", "interfaces", "-n", "10.5.0.2,10.5.0.5"},
		},
		{Name: "interfaces.wide", Args: []string{"network", "interfaces", "-n", "n4", "-o", "wide"}},
		{Name: "interfaces.json", Args: []string{"network", "interfaces", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "interfaces.json.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"network", "interfaces", "-n", "10.5.0.5", "-o", "json"},
		},
		{Name: "interfaces.name", Args: []string{"network", "interfaces", "-n", "n4", "-o", "name"}},
		{
			Name: "interfaces.partial",
			Args: []string{"network", "interfaces", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list AddressStatuses.net.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "interfaces.dead",
			Args: []string{"network", "interfaces", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list AddressStatuses.net.talos.dev on 10.5.0.6`},
		},
		{Name: "interfaces.link-local", Args: []string{"net", "links", "-n", "n1", "--link-local"}},
	})
}
