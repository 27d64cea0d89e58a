package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestModules(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "modules.none", Version: "talos-v1.14.0-rc.1", Args: []string{"system", "modules", "-n", "10.6.0.2", "-o", "json"}},
		{Name: "modules.old", Args: []string{"system", "modules", "-n", "10.5.0.2", "-o", "json"}},
	})
}
