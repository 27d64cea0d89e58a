package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestNetstat(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "netstat.table", Args: []string{"network", "netstat", "-n", "10.5.0.5", "--process"}},
		{Name: "netstat.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "netstat", "-n", "10.5.0.5"}},
		{Name: "netstat.wide", Version: "talos-v1.13.9", Args: []string{"net", "ss", "-n", "10.5.0.5", "-o", "wide"}},
		{Name: "netstat.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "netstat", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "netstat.query",
			Args: []string{"network", "netstat", "-n", "n1", "--query", ".items | group_by(.state) | .[] | .[0].state + \" \" + (length | tostring)"},
		},
		{
			Name: "netstat.partial",
			Args: []string{"network", "netstat", "-n", "n3,n4", "--query", ".items | length"}, Code: 4,
			Stderr: []string{`cannot list sockets on 10.5.0.4 (n3)`},
		},
	})
}
