// Package golden compares output with files under testdata; `go test ./... -update` rewrites them.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files") //nolint:gochecknoglobals // test flags are package variables

// Assert compares got with testdata/NAME.golden of the calling test's package. Times at which a document
// was made are blanked first.
func Assert(t *testing.T, name string, got []byte) {
	t.Helper()

	got = Stable(got)
	path := filepath.Join("testdata", name+".golden")

	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}

		return
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}

	if string(want) != string(got) {
		t.Errorf("%s differs\n--- want\n%s\n--- got\n%s", path, want, got)
	}
}

// Stable blanks what differs between two runs over the same cluster.
func Stable(text []byte) []byte {
	text = regexp.MustCompile(`("generated_at": *"|generated_at: "?)[^"\n]*`).ReplaceAll(text, []byte("${1}2026-01-01T00:00:00Z"))

	text = regexp.MustCompile(`("(?:duration|elapsed|probe)_seconds": )[0-9.e-]+`).ReplaceAll(text, []byte("${1}0"))

	text = regexp.MustCompile(`(expires"?:? "?)\d{4}-\d\d-\d\dT[0-9:]+Z`).ReplaceAll(text, []byte("${1}2027-01-01T00:00:00Z"))

	text = regexp.MustCompile(`("age_seconds": |newest object )[0-9.e-]+[0-9hms]*`).ReplaceAll(text, []byte("${1}0"))

	return regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAll(text, []byte("127.0.0.1:PORT"))
}
