package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestMounts(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "mounts.table", Args: []string{"system", "mounts", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "mounts.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "mounts", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "mounts.wide", Args: []string{"system", "mounts", "-n", "n4", "-o", "wide"}},
		{Name: "mounts.json", Args: []string{"system", "mounts", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "mounts.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "mounts", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "mounts.name", Args: []string{"system", "mounts", "-n", "n4", "-o", "name"}},
		{
			Name: "mounts.partial",
			Args: []string{"system", "mounts", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list mounts on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "mounts.dead",
			Args: []string{"system", "mounts", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list mounts on 10.5.0.6`},
		},
	})
}
