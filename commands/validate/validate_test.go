package validate_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

func TestValidate(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"unknown.json": {[]string{"-f", "testdata/unknown.yaml", "-o", "json"}, 3},
		"unknown":      {[]string{"-f", "testdata/unknown.yaml"}, 3},
		"invalid.json": {[]string{"-f", "testdata/invalid.yaml", "-o", "json"}, 3},
		"subnets.json": {[]string{"-f", "testdata/subnets.yaml", "-o", "json"}, 3},
		"syntax.json":  {[]string{"-f", "testdata/syntax.yaml", "-o", "json"}, 3},
		"later":        {[]string{"-f", "testdata/later.yaml", "--talos-version", "v1.14"}, 0},
		"earlier":      {[]string{"-f", "testdata/later.yaml", "--talos-version", "v1.12.9"}, 3},
		"future":       {[]string{"-f", "testdata/future.yaml"}, 2},
		"bad-version":  {[]string{"-f", "testdata/later.yaml", "--talos-version", "latest"}, 2},
		"decode.json":  {[]string{"-f", "testdata/decode.yaml", "-o", "json"}, 3},
		"blank":        {[]string{"-f", "testdata/blank.yaml"}, 3},
		"twice":        {[]string{"-f", "testdata/twice.yaml"}, 3},
		"encrypted":    {[]string{"-f", "testdata/encrypted.yaml"}, 2},
		"missing":      {[]string{"-f", "testdata/none.yaml"}, 2},
		"no-file":      {nil, 2},
		"mode":         {[]string{"-f", "testdata/invalid.yaml", "--mode", "vm"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got := clitest.Run(t, nil, append([]string{"validate"}, c.args...)...)
			if got.Code != c.code {
				t.Errorf("exit %d: %s", got.Code, got.Stderr)
			}

			golden.Assert(t, name, []byte(got.Stdout))

			if name == "encrypted" && !strings.Contains(got.Stderr, "encrypted with SOPS") {
				t.Errorf("stderr: %s", got.Stderr)
			}
		})
	}
}
