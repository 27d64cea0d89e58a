package fsutil_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/fsutil"
)

func TestElement(t *testing.T) {
	t.Parallel()

	for _, good := range []string{"cp-1", "10.0.0.1", "fd00::1", "worker_1.example.com", "..a", "admin@prod", "κόμβος", "a b"} {
		if got, err := fsutil.Element(good); err != nil || got != good {
			t.Errorf("%q: %q, %v", good, got, err)
		}
	}

	for _, bad := range []string{
		"", ".", "..", "/", "/etc", "a/b", "../x", `a\b`, `..\x`, "a\x00b", "a\nb", "a\x1b[2J", "a\u0085b", "a\u202eb", "a\xffb", strings.Repeat("a", 256),
	} {
		if got, err := fsutil.Element(bad); err == nil || got != "" {
			t.Errorf("%q is accepted", bad)
		}
	}
}
