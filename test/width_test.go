//go:build unix

package test

import (
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/clipperhouse/displaywidth"
	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// defaultReads are what a person runs on a cluster first.
func defaultReads() []string {
	return []string{
		"version", "health", "members", "describe", "describe node -n cp-1", "config contexts", "config info",
		"get members", "get links", "get routes -n cp-1", "get addresses -n cp-1", "get disks", "get volumestatus -n cp-1", "get services -n cp-1",
		"service list", "service info etcd -n cp-1", "etcd status", "etcd members", "etcd alarm list",
		"image list -n cp-1", "image list --namespace all -n cp-1", "image prune --dry-run -n cp-1", "container list -n cp-1", "processes -n cp-1",
		"network interfaces", "network addresses", "network routes", "network resolvers", "network hostname", "network netstat -n cp-1",
		"system disks", "system mounts -n cp-1", "system memory", "system cpu", "system load", "system time", "system usage /etc -n cp-1",
		"storage volumes -n cp-1", "storage discovered -n cp-1", "fs ls /etc -n cp-1", "extension list",
		"upgrade plan --to v1.14.2", "upgrade status", "upgrade impact --to v1.14.2", "machineconfig diff -n cp-1,cp-2",
		"commands", "settings view",
	}
}

// onScreen runs a command line on a pseudo-terminal of a width and returns what it wrote.
func (f *fleet) onScreen(t *testing.T, columns uint16, args ...string) string {
	t.Helper()

	tty, err := pty.StartWithSize(f.command(filepath.Join(f.bin, "talosmate"), args...), &pty.Winsize{Rows: 50, Cols: columns})
	require.NoError(t, err)

	defer tty.Close() //nolint:errcheck // the program has ended by then

	text, err := io.ReadAll(tty)
	require.ErrorIs(t, err, syscall.EIO, "the terminal is closed when the program has ended")

	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// TestTablesFit checks that no line of a table is wider than a terminal of 80 columns, and that none is wider than 100 in a
// pipe, where nothing is cut.
func TestTablesFit(t *testing.T) {
	t.Parallel()

	const terminal, pipe = 80, 100

	f := startLab(t)
	// Sentences may be longer than a line: what gates and checks say, and hints.
	sentence := regexp.MustCompile(`^(TM\d+ |hint|warning:|error:|alert |plan |images are|kubernetes |asked |Talosconfig: |[a-z]+-?\d*: |changes of |v1\.\d+ )`)

	fits := func(t *testing.T, text string, width int) {
		t.Helper()

		require.NotEmpty(t, strings.TrimSpace(text))

		for l := range strings.Lines(text) {
			l = strings.TrimSuffix(l, "\n")
			if w := displaywidth.String(l); w > width && !sentence.MatchString(l) {
				t.Errorf("%d columns, and %d are the most: %s", w, width, l)
			}
		}
	}

	for _, line := range defaultReads() {
		t.Run(line, func(t *testing.T) {
			t.Parallel()

			words := strings.Fields(line)
			fits(t, f.onScreen(t, terminal, words...), terminal)

			text, _ := f.command(filepath.Join(f.bin, "talosmate"), words...).Output() // an answer may be no
			fits(t, string(text), pipe)
		})
	}
}
