package logs_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

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

// FuzzStamp reads the time stamps of any lines: what is found is a time that a document can hold.
func FuzzStamp(f *testing.F) {
	for _, line := range []string{
		"2026-11-22T18:00:00.123Z stdout F message", "2026/11/22 18:00:00 message", "I0229 18:00:00.123456 1 a.go:1] message",
		`{"ts":1763834400.5,"msg":"x"}`, `{"ts":1e30}`, `{"ts":99999999999999}`, `{"time":"9999-12-31T23:59:59-23:59"}`, `{"ts":1e999}`,
		"0000-01-01T00:00:00+23:59 x", `time="2026-11-22T18:00:00Z" level=info`, "ts=", `{"ts":"` + strings.Repeat("9", 400), "\x1b[2J\xff",
	} {
		f.Add([]byte(line))
	}

	stamps := logs.NewStamps(time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC))

	f.Fuzz(func(t *testing.T, line []byte) {
		at, _ := stamps.Of(line)
		if _, err := at.UTC().MarshalJSON(); err != nil {
			t.Fatalf("%q: %v, %v", line, at, err)
		}
	})
}
