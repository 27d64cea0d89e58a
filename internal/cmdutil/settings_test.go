package cmdutil_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// TestSettingsMustBePositive gives a timeout and a concurrency from each place that they can come from.
func TestSettingsMustBePositive(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		key   string
		value string
		code  int
	}{
		{"timeout", "5s", 0},
		{"timeout", "-1s", 2},
		{"timeout", "0s", 2},
		{"timeout", "10us", 2},
		{"concurrency", "3", 0},
		{"concurrency", "0", 2},
		{"concurrency", "-4", 2},
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(tt.key+": "+tt.value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}

		variable := "TALOSMATE_" + strings.ToUpper(tt.key)

		for where, run := range map[string]func() clitest.Result{
			"--" + tt.key: func() clitest.Result { return clitest.Run(t, nil, "commands", "-o", "name", "--"+tt.key+"="+tt.value) },
			"$" + variable: func() clitest.Result {
				return clitest.Run(t, []string{variable + "=" + tt.value}, "commands", "-o", "name")
			},
			tt.key + " in " + file: func() clitest.Result {
				return clitest.Run(t, []string{"TALOSMATE_CONFIG=" + file}, "commands", "-o", "name")
			},
		} {
			got := run()
			if got.Code != tt.code || tt.code != 0 && !strings.Contains(got.Stderr, where+" must be") {
				t.Errorf("%s=%s: %+v", where, tt.value, got)
			}
		}
	}
}
