package commands_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommandsOfFacts: the next command line of a fact about a release exists, with its flags.
func TestCommandsOfFacts(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob("../internal/ops/impact/facts/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}

	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		for _, found := range regexp.MustCompile(`(?m)^    command: talosmate (.*)$`).FindAllSubmatch(text, -1) {
			line := strings.NewReplacer("{node}", "10.0.0.1", "{to}", "v1.14.1").Replace(string(found[1]))

			cmd, rest, err := newRoot().Find(strings.Fields(line))
			if err == nil {
				err = cmd.ParseFlags(rest)
			}

			if err != nil || !cmd.Runnable() {
				t.Errorf("%s: %q: %v", filepath.Base(file), line, err)
			}
		}
	}
}
