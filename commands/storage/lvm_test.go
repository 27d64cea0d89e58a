package storage_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

const (
	before114 = "talos-v1.13.8"
	with114   = "talos-v1.14.0-rc.1"
)

func TestDevicesOf114(t *testing.T) {
	t.Parallel()

	cases := []clitest.Recorded{}

	for _, command := range []string{"lvm", "raid", "upkeep"} {
		cases = append(cases,
			clitest.Recorded{Name: command + ".none", Version: with114, Args: []string{"storage", command, "-n", "10.6.0.2", "-o", "json"}},
			clitest.Recorded{
				Name: command + ".old", Version: before114, Args: []string{"storage", command, "-n", "10.5.0.2", "-o", "json"}, Code: 1,
				Stderr: []string{"Talos v1.13.8 does not have it", "hint: it came with Talos v1.14"},
			})
	}

	clitest.Test(t, cases)
}
