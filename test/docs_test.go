package test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGuides runs the shell blocks of each guide, top to bottom, in one shell, against a lab that has its nodes.
func TestGuides(t *testing.T) {
	t.Parallel()

	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

	for guide, lab := range map[string][]string{
		"../docs/agents.md":  {"--controlplanes", "3", "--workers", "1"},
		"../docs/support.md": {},
	} {
		t.Run(guide, func(t *testing.T) {
			t.Parallel()

			text, err := os.ReadFile(guide)
			if err != nil {
				t.Fatal(err)
			}

			var script strings.Builder

			blocks := block.FindAllSubmatch(text, -1)
			for _, b := range blocks {
				script.Write(b[1])
			}

			if len(blocks) < 2 {
				t.Fatalf("%d blocks", len(blocks))
			}

			f := startLab(t, lab...)

			cmd := f.command("sh", "-eux", "-c", script.String())
			cmd.Env = append(cmd.Env, "PATH="+f.bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+f.dir)

			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
