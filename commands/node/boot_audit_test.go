package node_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// The recorded clusters are containers, which have no firmware; n3 is down.
func TestBootAudit(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "boot-audit", Version: "talos-v1.14.0-rc.1", Args: []string{"node", "boot-audit", "-n", "10.6.0.2", "-o", "wide"}},
		{Name: "boot-audit.json", Args: []string{"node", "boot-audit", "-n", "n1,n3", "-o", "json"}, Code: 4},
	})
}
