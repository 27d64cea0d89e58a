package upgrade_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/factorystub"
)

func TestImpact(t *testing.T) {
	t.Parallel()

	stub := factorystub.Serve(t)
	impact := func(args ...string) []string {
		return append([]string{"upgrade", "impact", "--factory", stub, "--kubeconfig", "testdata/nosuch.kubeconfig"}, args...)
	}

	clitest.Test(t, []clitest.Recorded{
		{Name: "impact.usage", Args: impact(), Code: 2, Stderr: []string{"--to VERSION"}},
		{Name: "impact.no-version", Args: impact("--to", "next"), Code: 2, Stderr: []string{`"next" is not a version`}},
		{Name: "impact.patch", Args: impact("--to", "v1.13.9", "-n", "n1,n4")},
		{Name: "impact.table", Args: impact("--to", "v1.14.1", "-n", "n1,n4"), Code: 3, Stderr: []string{"facts apply"}},
		{Name: "impact.json", Args: impact("--to", "v1.14.1", "-n", "n1,n4", "-o", "json"), Code: 3},
		{Name: "impact.partial", Args: impact("--to", "v1.14.1", "-n", "n3,n4"), Code: 3, Stderr: []string{"n3"}},
		{Name: "impact.unreachable", Args: impact("--to", "v1.14.1", "-n", "n3"), Code: 6, Stderr: []string{"n3"}},
	})
}
