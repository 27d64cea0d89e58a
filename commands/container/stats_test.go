package container_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestStats(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "stats.none", Variants: cri(), Args: []string{"container", "stats", "-n", "n1,n4", "--interval", "0", "-o", "json"}},
		{
			Name: "stats.counters", Variants: system(),
			Args: []string{"container", "stats", "-n", "n1,n4", "--namespace", "system", "--interval", "0"},
		},
		{
			Name: "stats.counters.v1.13.9", Version: "talos-v1.13.9", Variants: system(),
			Args: []string{"container", "stats", "-n", "10.5.0.2,10.5.0.5", "--namespace", "system", "--interval", "0"},
		},
		{
			Name: "stats.idle.json", Variants: system(),
			Args: []string{"container", "stats", "-n", "n1", "--namespace", "system", "--interval", "1ms", "-o", "json"},
		},
		{
			Name: "stats.partial", Variants: system(), Code: 4,
			Args:   []string{"container", "stats", "-n", "n3,n4", "--namespace", "system", "--interval", "0"},
			Stderr: []string{"cannot read container stats on 10.5.0.4 (n3)"},
		},
		{
			Name: "stats.long", Code: 2, Args: []string{"container", "stats", "-n", "n1", "--interval", "31s"},
			Stderr: []string{"--interval 31s does not fit into --timeout 30s", "hint: talosmate container stats --interval=31s --nodes=n1 --timeout=1m1s"},
		},
	})
}
