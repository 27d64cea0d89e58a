package commands_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/commands/about"
	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// TestTalosctlWords types what talosctl's users type: every hint names a command that exists.
func TestTalosctlWords(t *testing.T) {
	t.Parallel()

	known := map[string]bool{}
	for _, c := range about.Catalogue(newRoot()) {
		known[c.Path] = true
	}

	for line, want := range map[string]string{
		"upgrade -n 10.0.0.1 --image x:v1.13.9": "upgrade node",
		"reboot -n 10.0.0.1":                    "node reboot",
		"reset":                                 "node reset",
		"services":                              "service list",
		"containers":                            "container list",
		"disks":                                 "system disks",
		"netstat":                               "network netstat",
		"list /etc":                             "fs ls",
		"read /etc/os-release":                  "fs read",
		"copy /etc .":                           "fs cp",
		"apply-config":                          "machineconfig apply",
		"usage":                                 "system usage",
	} {
		got := clitest.Run(t, nil, strings.Fields(line)...)
		if got.Code != 2 || !strings.Contains(got.Stderr, "`talosmate "+want+"`") {
			t.Errorf("%s: exit code %d, %q", line, got.Code, got.Stderr)
		}

		if !known[want] {
			t.Errorf("%s is hinted at and does not exist", want)
		}
	}

	for line, want := range map[string]string{
		"dashboard": "talosctl dashboard", "support": "talosctl support", "servise": "did you mean service?", "service lst": "did you mean list?",
	} {
		if got := clitest.Run(t, nil, strings.Fields(line)...); got.Code != 2 || !strings.Contains(got.Stderr, want) {
			t.Errorf("%s: exit code %d, %q", line, got.Code, got.Stderr)
		}
	}
}
