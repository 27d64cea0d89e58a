package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestSecurity(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "security", Version: "talos-v1.14.0-rc.1", Args: []string{"system", "security", "-n", "10.6.0.2", "-o", "wide"}},
		{Name: "security.json", Version: "talos-v1.14.0-rc.1", Args: []string{"system", "security", "-n", "10.6.0.2", "-o", "json"}},
		{Name: "security.partial", Args: []string{"system", "security", "-n", "n1,n3", "-o", "json"}, Code: 4},
	})
}
