package storage_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestVolumes(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "volumes.table", Args: []string{"storage", "volumes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "volumes.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"storage", "volumes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "volumes.wide", Args: []string{"storage", "volumes", "-n", "n4", "-o", "wide"}},
		{Name: "volumes.json", Args: []string{"storage", "volumes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "volumes.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"storage", "volumes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "volumes.name", Args: []string{"storage", "volumes", "-n", "n4", "-o", "name"}},
		{
			Name: "volumes.partial",
			Args: []string{"storage", "volumes", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list VolumeStatuses.block.talos.dev on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "volumes.dead",
			Args: []string{"storage", "volumes", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list VolumeStatuses.block.talos.dev on 10.5.0.6`},
		},
	})
}
