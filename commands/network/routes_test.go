package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestRoutes(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "routes.table", Args: []string{"network", "routes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "routes.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "routes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "routes.wide", Args: []string{"network", "routes", "-n", "n4", "-o", "wide"}},
		{Name: "routes.json", Args: []string{"network", "routes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "routes.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "routes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "routes.name", Args: []string{"network", "routes", "-n", "n4", "-o", "name"}},
		{
			Name: "routes.partial",
			Args: []string{"network", "routes", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list RouteStatuses.net.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "routes.dead",
			Args: []string{"network", "routes", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list RouteStatuses.net.talos.dev on 10.5.0.6`},
		},
	})
}
