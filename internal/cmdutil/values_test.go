package cmdutil

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
)

func TestCheckValues(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		args    []string
		changes bool
		code    errs.Code
	}{
		{[]string{}, true, errs.OK},
		{[]string{"-n", "a,b", "--timeout", "5s", "--window", "x"}, true, errs.OK},
		{[]string{"-n", ""}, false, errs.Usage},
		{[]string{"-n", "a,"}, true, errs.Usage},
		{[]string{"-n", " "}, true, errs.Usage},
		{[]string{"-e", ""}, false, errs.Usage},
		{[]string{"--window", ""}, true, errs.Usage},
		{[]string{"--window", ""}, false, errs.OK},
	} {
		flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
		flags.StringSliceP("nodes", "n", nil, "")
		flags.StringSliceP("endpoints", "e", nil, "")
		flags.String("window", "", "")
		flags.Duration("timeout", time.Second, "")
		flags.Int("concurrency", 1, "")

		if err := flags.Parse(tt.args); err != nil {
			t.Fatal(err)
		}

		if err := checkValues("talosmate x", flags, tt.changes, nil); errs.ExitCode(err) != tt.code {
			t.Errorf("%q: %v", tt.args, err)
		}
	}
}
