package logs

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// KernelLine is one parsed line of the kernel log.
type KernelLine struct {
	Facility string
	Level    string
	Time     time.Time
	Message  string
}

// Levels lists the kernel's levels, most severe first, as Talos names them.
func Levels() []string {
	return []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
}

// ParseLevel reads a level's name with the common abbreviations; ok is false for anything else.
func ParseLevel(s string) (rank int, ok bool) {
	switch s = strings.ToLower(s); s {
	case "warn":
		s = "warning"
	case "error":
		s = "err"
	case "panic":
		s = "emerg"
	}

	rank = slices.Index(Levels(), s)

	return rank, rank >= 0
}

// ParseKernel parses a line: `kern: info: [2026-11-22T18:00:00Z]: message`. ok is false for lines of another form,
// which continue the previous line.
func ParseKernel(line []byte) (k KernelLine, ok bool) {
	facility, rest, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(facility) == 0 || bytes.ContainsAny(facility, " \t=") {
		return k, false
	}

	level, rest, ok := bytes.Cut(rest, []byte(": ["))
	if !ok {
		return k, false
	}

	stamp, message, ok := bytes.Cut(rest, []byte("]: "))
	if !ok {
		return k, false
	}

	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return k, false
	}

	k = KernelLine{Facility: string(facility), Level: strings.TrimSpace(string(level)), Time: at.UTC(), Message: string(message)}
	_, ok = ParseLevel(k.Level)

	return k, ok
}
