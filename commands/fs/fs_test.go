package fs_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestLs(t *testing.T) {
	t.Parallel()

	etc := map[string]string{"MachineService.List": "etc"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "ls.table", Args: []string{"fs", "ls", "/etc", "-n", "n1"}, Variants: etc},
		{Name: "ls.wide", Args: []string{"fs", "ls", "/etc", "-n", "n1", "-o", "wide", "--pattern", "h*"}, Variants: etc},
		{Name: "ls.json", Args: []string{"fs", "ls", "/etc", "-n", "n1,n4", "-o", "json", "--pattern", "hosts"}, Variants: etc},
		{Name: "ls.name", Args: []string{"fs", "ls", "/system", "-r", "-n", "n1", "-o", "name", "--pattern", "config/*"}, Variants: map[string]string{"MachineService.List": "system-recurse"}},
		{Name: "ls.none", Args: []string{"fs", "ls", "/etc", "-n", "n1", "-o", "json", "--pattern", "none"}, Variants: etc},
		{
			Name: "ls.partial", Args: []string{"fs", "ls", "/etc", "-n", "10.5.0.2,10.5.0.4", "-o", "json", "--query", ".errors[].node"}, Variants: etc, Code: 4,
		},
		{
			Name: "ls.missing", Args: []string{"fs", "ls", "/nosuchdir", "-n", "n1"}, Variants: map[string]string{"MachineService.List": "nosuchdir"}, Code: 1,
			Stderr: []string{"cannot list /nosuchdir on 10.5.0.2 (n1): lstat /nosuchdir: no such file or directory"},
		},
		{Name: "ls.relative", Args: []string{"fs", "ls", "etc", "-n", "n1"}, Code: 2, Stderr: []string{"not an absolute path"}},
		{Name: "ls.type", Args: []string{"fs", "ls", "/etc", "--type", "socket", "-n", "n1"}, Code: 2, Stderr: []string{"unknown file type"}},
	})
}

func TestRead(t *testing.T) {
	t.Parallel()

	release := map[string]string{"MachineService.Read": "os-release"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "read.raw", Args: []string{"fs", "read", "/etc/os-release", "-n", "n1"}, Variants: release},
		{Name: "read.json", Args: []string{"fs", "read", "/etc/os-release", "-n", "n1,n4", "-o", "json"}, Variants: release},
		{
			Name: "read.cut", Args: []string{"fs", "read", "/etc/os-release", "-n", "n1", "--max-bytes", "12"}, Variants: release,
			Stderr: []string{"warning: /etc/os-release holds more than 12 bytes"},
		},
		{Name: "read.cut.json", Args: []string{"fs", "read", "/etc/os-release", "-n", "n1", "--max-bytes", "12", "-o", "json"}, Variants: release},
		{
			Name: "read.missing", Args: []string{"fs", "read", "/etc/nosuchfile", "-n", "n1"}, Variants: map[string]string{"MachineService.Read": "nosuchfile"}, Code: 1,
			Stderr: []string{"cannot read /etc/nosuchfile on 10.5.0.2 (n1)"},
		},
		{Name: "read.several", Args: []string{"fs", "read", "/etc/os-release", "-n", "n1,n4"}, Variants: release, Code: 2, Stderr: []string{"-o json"}},
		{Name: "read.partial", Args: []string{"fs", "read", "/etc/os-release", "-n", "10.5.0.2,10.5.0.4", "-o", "name"}, Variants: release, Code: 4},
	})
}
