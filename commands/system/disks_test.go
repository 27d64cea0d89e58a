package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestDisks(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "disks.none", Args: []string{"system", "disks", "-n", "n1", "-o", "json"}},
		{Name: "disks.none.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "disks", "-n", "10.5.0.5"}},
		{
			Name: "disks.partial",
			Args: []string{"system", "disks", "-n", "n3,n4", "-o", "json"}, Code: 4,
			Stderr: []string{`cannot list SystemDisks.block.talos.dev on 10.5.0.4 (n3)`},
		},
	})
}
