package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestLoad(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "load.table", Args: []string{"system", "load", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "load.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "load", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "load.wide", Args: []string{"system", "load", "-n", "n4", "-o", "wide"}},
		{Name: "load.json", Args: []string{"system", "load", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "load.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "load", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "load.name", Args: []string{"system", "load", "-n", "n4", "-o", "name"}},
		{
			Name: "load.partial",
			Args: []string{"system", "load", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot read the load on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "load.dead",
			Args: []string{"system", "load", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot read the load on 10.5.0.6`},
		},
	})
}
