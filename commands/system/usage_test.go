package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestUsage(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "usage.df", Args: []string{"system", "usage", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "usage.df.v1.13.9", Version: "talos-v1.13.9", Args: []string{"system", "df", "-n", "10.5.0.5", "-o", "wide"}},
		{Name: "usage.df.json", Args: []string{"system", "usage", "-n", "n4", "-o", "json"}},
		{Name: "usage.path", Variants: map[string]string{"MachineService.DiskUsage": "var"}, Args: []string{"system", "usage", "/var", "-n", "10.5.0.2,10.5.0.5"}},
		{
			Name: "usage.path.json", Version: "talos-v1.13.9",
			Variants: map[string]string{"MachineService.DiskUsage": "var"}, Args: []string{"system", "usage", "/var", "-n", "10.5.0.2,10.5.0.5", "-o", "json"},
		},
		{Name: "usage.name", Variants: map[string]string{"MachineService.DiskUsage": "var"}, Args: []string{"system", "du", "/var", "-n", "n1", "-o", "name"}},
		{
			Name:     "usage.partial",
			Variants: map[string]string{"MachineService.DiskUsage": "var"}, Args: []string{"system", "usage", "/var", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot measure /var on 10.5.0.4 (n3)`},
		},
		{
			Name: "usage.depth-without-path",
			Args: []string{"system", "usage", "-n", "n1", "--depth", "1"}, Code: 2,
			Stderr: []string{`--depth, --files and --threshold are for a PATH`},
		},
		{
			Name:     "usage.bad-size",
			Variants: map[string]string{"MachineService.DiskUsage": "var"}, Args: []string{"system", "usage", "/var", "-n", "n1", "-t", "lots"}, Code: 2,
			Stderr: []string{`--threshold wants a size such as 100MiB`},
		},
	})
}
