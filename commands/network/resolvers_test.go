package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestResolvers(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "resolvers.table", Args: []string{"network", "resolvers", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "resolvers.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "resolvers", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "resolvers.json.v1.14.0", Version: "talos-v1.14.0-rc.1", Args: []string{"network", "resolvers", "-n", "10.6.0.2", "-o", "json"}},
		{Name: "resolvers.wide", Args: []string{"network", "resolvers", "-n", "n4", "-o", "wide"}},
		{Name: "resolvers.json", Args: []string{"network", "resolvers", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "resolvers.json.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"network", "resolvers", "-n", "10.5.0.5", "-o", "json"},
		},
		{Name: "resolvers.name", Args: []string{"network", "resolvers", "-n", "n4", "-o", "name"}},
		{
			Name: "resolvers.partial",
			Args: []string{"network", "resolvers", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list ResolverStatuses.net.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "resolvers.dead",
			Args: []string{"network", "resolvers", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list ResolverStatuses.net.talos.dev on 10.5.0.6`},
		},
	})
}
