package cmdutil

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
)

// TestFlags gives flags under their new and their old names, and values that they must refuse.
func TestFlags(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		args, want, stderr string
	}{
		{"", "1m0s slow true true", ""},
		{"--new 5s --pace fast --drain=false --install-only", "5s fast false false", ""},
		{"--old 5s --mode fast --skip-drain --auto-reboot=false", "5s fast false false", ""},
		{"--skip-drain=false --auto-reboot", "1m0s slow true true", ""},
		{"--old 5s --new 6s", "", "--old is the old name of --new"},
		{"--drain --skip-drain", "", "--skip-drain is the old name of --drain"},
		{"--new 0s", "", "--new must be positive"},
		{"--old -1s", "", "--new must be positive"},
		{"--old soon", "", `invalid argument "soon" for "--old" flag`},
		{"--skip-drain=perhaps", "", `invalid argument "perhaps" for "--skip-drain" flag`},
		{"--pace walk", "", `unknown --pace "walk": want one of slow, fast`},
		{"--mode walk", "", `unknown --pace "walk": want one of slow, fast`},
		{"--count -1", "", "--count must not be negative"},
		{"--a --b", "", "--a, --b are mutually exclusive"},
		{"word", "", "want no arguments, got one argument"},
	} {
		var (
			got      string
			patience time.Duration
			pace     string
			skip     bool
		)

		f := NewFactory(&iostreams.Streams{
			In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false },
		}, Build{})
		reboot := true

		cmd := New(f, Command{
			Use: "x", Spec: Spec{Kind: Read, Offline: true},
			Flags: func(fs *Flags) {
				fs.Positive(&patience, "new", time.Minute, "how long")
				fs.Renamed("old", "new")
				fs.Choice(&pace, "pace", "slow", "how fast", "slow", "fast")
				fs.Renamed("mode", "pace")
				fs.Inverse(&skip, "drain", "drain first")
				fs.Negated("skip-drain", "drain")
				fs.Inverse(&reboot, "install-only", "do not reboot")
				fs.Negated("auto-reboot", "install-only")
				fs.Int("count", 0, "how many")
				fs.NotNegative("count")
				fs.Bool("a", false, "one way")
				fs.Bool("b", false, "the other way")
				fs.Exclusive("a", "b")
			},
		}, NoDocument(), func(c *Call) error {
			got = fmt.Sprint(patience, " ", pace, " ", !skip, " ", reboot)

			for _, flag := range changedFlags(c.Cmd) {
				if strings.HasPrefix(flag, "--old") || strings.HasPrefix(flag, "--mode") || strings.HasPrefix(flag, "--skip") {
					t.Errorf("%s: the old name is logged: %s", tt.args, flag)
				}
			}

			return nil
		})
		AddGlobalFlags(f, cmd)

		if usage := cmd.UsageString(); strings.Contains(usage, "--old") || strings.Contains(usage, "skip-drain") || !strings.Contains(usage, "(default true)") {
			t.Errorf("usage:\n%s", usage)
		}

		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(tt.args))

		err := cmd.ExecuteContext(t.Context())

		switch {
		case tt.stderr == "" && (err != nil || got != tt.want):
			t.Errorf("%q: %q, %v, want %q", tt.args, got, err, tt.want)
		case tt.stderr != "" && (err == nil || !strings.Contains(err.Error(), tt.stderr)):
			t.Errorf("%q: %v, want %q", tt.args, err, tt.stderr)
		case err != nil && !strings.HasPrefix(tt.stderr, "invalid") && errs.ExitCode(err) != errs.Usage:
			t.Errorf("%q: exit code %d", tt.args, errs.ExitCode(err))
		}
	}
}
