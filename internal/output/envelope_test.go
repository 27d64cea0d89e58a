package output_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/output"
)

func TestSchemaID(t *testing.T) {
	t.Parallel()

	for name, want := range map[string]string{
		"LoadList":    "talosmate/v1/LoadList",
		"v2/LoadList": "talosmate/v2/LoadList",
	} {
		if got := output.SchemaID(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
