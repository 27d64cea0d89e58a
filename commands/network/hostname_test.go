package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestHostname(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "hostname.table", Args: []string{"network", "hostname", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "hostname.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "hostname", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "hostname.wide", Args: []string{"network", "hostname", "-n", "n4", "-o", "wide"}},
		{Name: "hostname.json", Args: []string{"network", "hostname", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "hostname.json.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"network", "hostname", "-n", "10.5.0.5", "-o", "json"},
		},
		{Name: "hostname.name", Args: []string{"network", "hostname", "-n", "n4", "-o", "name"}},
		{
			Name: "hostname.partial",
			Args: []string{"network", "hostname", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list HostnameStatuses.net.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "hostname.dead",
			Args: []string{"network", "hostname", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list HostnameStatuses.net.talos.dev on 10.5.0.6`},
		},
	})
}
