package storage_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestDiscovered(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "discovered.none", Args: []string{"storage", "discovered", "-n", "n1", "-o", "json"}},
		{Name: "discovered.none.v1.13.9", Version: "talos-v1.13.9", Args: []string{"storage", "discovered", "-n", "10.5.0.5"}},
		{
			Name: "discovered.partial",
			Args: []string{"storage", "discovered", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list DiscoveredVolumes.block.talos.dev on 10.5.0.4 (n3)`},
		},
	})
}
