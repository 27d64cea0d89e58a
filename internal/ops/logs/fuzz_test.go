package logs_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/logs"
)

// FuzzKernelLine holds that a line that is taken apart has a facility, one of the kernel's levels, and the line's own message.
func FuzzKernelLine(f *testing.F) {
	for _, line := range []string{
		"kern: info: [2026-11-22T18:00:00Z]: message", "kern: info: [2026-11-22T18:00:00Z]: ", "a: b: [c]: d", ":", "user: warning: [2026-11-22T18:00:00.123456789Z]: \x1b[2J", " SUBSYSTEM=block",
	} {
		f.Add([]byte(line))
	}

	f.Fuzz(func(t *testing.T, line []byte) {
		k, ok := logs.ParseKernel(line)
		if !ok {
			return
		}

		if _, known := logs.ParseLevel(k.Level); !known || k.Facility == "" || strings.ContainsAny(k.Facility, " \t=") || !bytes.HasSuffix(line, []byte("]: "+k.Message)) {
			t.Fatalf("%q: %+v", line, k)
		}
	})
}
