package extension_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestList(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "list.none", Args: []string{"extension", "list", "-n", "n1,n4", "-o", "json"}},
		{Name: "list.none.v1.13.9", Version: "talos-v1.13.9", Args: []string{"extension", "list", "-n", "10.5.0.5"}},
		{Name: "list.diff-same", Args: []string{"extension", "list", "-n", "n1,n4", "--diff", "-o", "json"}},
		{
			Name: "list.partial",
			Args: []string{"extension", "list", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list ExtensionStatuses.runtime.talos.dev on 10.5.0.4 (n3)`},
		},
		{
			Name: "list.diff-missing-node",
			Args: []string{"extension", "list", "-n", "n3,n4", "--diff", "-o", "json"}, Code: 3,
			Stderr: []string{`cannot list ExtensionStatuses.runtime.talos.dev on 10.5.0.4 (n3)`},
		},
	})
}
