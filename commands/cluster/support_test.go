package cluster

import (
	"strings"
	"testing"
)

// TestTail checks what is kept of a log.
func TestTail(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", 3*maxLog)

	for _, row := range []struct {
		name   string
		lines  int
		chunks []string
		want   string
		cut    bool
	}{
		{"all", 3, []string{"a\n", "b\nc\n"}, "a\nb\nc\n", false},
		{"the last", 2, []string{"a\nb", "\nc\n"}, "b\nc\n", true},
		{"an unfinished line", 2, []string{"a\nb\nc"}, "b\nc", true},
		{"nothing", 5, nil, "", false},
		{"no lines wanted", 0, []string{"a\n"}, "", true},
		{"one endless line", 5, []string{long}, "", true},
		{"a long line before", 5, []string{long, "\nb\n"}, "b\n", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()

			keep := tail{lines: row.lines}
			for _, chunk := range row.chunks {
				if err := keep.add([]byte(chunk)); err != nil {
					t.Fatal(err)
				}

				if len(keep.text) > 2*maxLog {
					t.Errorf("%d bytes are kept", len(keep.text))
				}
			}

			got := keep.content(false)
			if string(got.Text) != row.want || got.Truncated != row.cut {
				t.Errorf("got %.40q, truncated %t", got.Text, got.Truncated)
			}
		})
	}
}
