package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestMemory(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "memory.table", Args: []string{"system", "memory", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "memory.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "memory", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "memory.wide", Args: []string{"system", "memory", "-n", "n4", "-o", "wide"}},
		{Name: "memory.json", Args: []string{"system", "memory", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "memory.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "memory", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "memory.name", Args: []string{"system", "memory", "-n", "n4", "-o", "name"}},
		{
			Name: "memory.partial",
			Args: []string{"system", "memory", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot read the memory on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "memory.dead",
			Args: []string{"system", "memory", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot read the memory on 10.5.0.6`},
		},
	})
}
