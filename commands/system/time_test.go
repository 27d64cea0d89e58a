package system_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestTime(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{
			Name: "time.failed",
			Args: []string{"system", "time", "-n", "n1", "-o", "json"}, Code: 1,
			Stderr: []string{`cannot compare the time on 10.5.0.2 (n1): error querying NTP server "time.cloudflare.com"`},
		},
		{
			Name: "time.failed.v1.13.9", Version: "talos-v1.13.9",
			Args: []string{"system", "time", "-n", "10.5.0.2,10.5.0.5"}, Code: 1,
			Stderr: []string{`cannot compare the time on 10.5.0.5`},
		},
	})
}
