package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestBGP(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "bgp.none", Version: "talos-v1.14.0-rc.1", Args: []string{"network", "bgp", "-n", "10.6.0.2"}},
		{
			Name: "bgp.old", Args: []string{"network", "bgp", "-n", "10.5.0.2,10.5.0.5", "-o", "json"}, Code: 1,
			Stderr: []string{"Talos v1.13.8 does not have it", "hint: it came with Talos v1.14"},
		},
	})
}
