package process_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestFlagsNeverCompleteToFilesUnlessTheyWantOne(t *testing.T) {
	t.Parallel()

	for line, want := range map[string]string{
		"processes --limit": ":4\n", "processes --interval": ":4\n", "processes --sort": "rss\ncpu\npid\n:4\n", "processes --timeout": ":4\n",
		"processes --talosconfig": ":0\n",
	} {
		got := clitest.Run(t, nil, append([]string{"__complete"}, append(strings.Fields(line), "")...)...)
		if got.Stdout != want {
			t.Errorf("%s completes to %q, want %q", line, got.Stdout, want)
		}
	}
}
