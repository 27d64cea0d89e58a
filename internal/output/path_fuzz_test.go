package output_test

import (
	"encoding/json"
	"testing"

	"github.com/talosmate/talosmate/internal/output"
)

// FuzzPath reads values by the JSONPath that a node's column or a user gives. It holds that none of them panics, and that a
// value that was read is read again.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"", "{.a}", ".a", "a[0].b", "{.a[*].b}", "{range .a[*]}{.b}{end}", "{.a[?(@.b==1)].b}", "{..b}", "{.a[-1:0:-1]}", "{", "{.a[0:999999999:1]}", "{end}"} {
		f.Add(path, `{"a":[{"b":1},null,"x"]}`)
	}

	f.Fuzz(func(t *testing.T, path, text string) {
		var doc any
		if json.Unmarshal([]byte(text), &doc) != nil {
			return
		}

		value, err := output.Path(path)
		if err != nil {
			return
		}

		if first := value(doc); first != value(doc) {
			t.Fatalf("%q of %s differs from one reading to the next", path, text)
		}
	})
}
