package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestCPU(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "cpu.table", Args: []string{"system", "cpu", "-n", "10.5.0.2,10.5.0.5", "--interval", "0"}},
		{
			Name: "cpu.table.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"system", "cpu", "-n", "10.5.0.2,10.5.0.5", "--interval", "0"},
		},
		{Name: "cpu.wide", Args: []string{"system", "cpu", "-n", "n4", "-o", "wide", "--interval", "0"}},
		{Name: "cpu.json", Args: []string{"system", "cpu", "-n", "10.5.0.5", "-o", "json", "--interval", "0"}},
		{
			Name: "cpu.json.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"system", "cpu", "-n", "10.5.0.5", "-o", "json", "--interval", "0"},
		},
		{Name: "cpu.name", Args: []string{"system", "cpu", "-n", "n4", "-o", "name", "--interval", "0"}},
		{
			Name: "cpu.partial",
			Args: []string{"system", "cpu", "-n", "n3,n4", "--interval", "0"}, Code: 4,
			Stderr: []string{`cannot read the processors on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "cpu.dead",
			Args: []string{"system", "cpu", "-n", "10.5.0.6", "-o", "json", "--interval", "0"}, Code: 6,
			Stderr: []string{`cannot read the processors on 10.5.0.6`},
		},
		{Name: "cpu.same", Args: []string{"system", "cpu", "-n", "n1", "--interval", "1ms", "-o", "table"}},
		{
			Name: "cpu.long",
			Args: []string{"system", "cpu", "-n", "n1", "--interval", "1m", "-o", "json"}, Code: 2,
			Stderr: []string{`--interval 1m0s does not fit into --timeout 30s`},
		},
		{
			Name: "cpu.negative",
			Args: []string{"system", "cpu", "-n", "n1", "--interval", "-1s"}, Code: 2,
			Stderr: []string{`--interval must not be negative`},
		},
	})
}
