package output_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/talosmate/talosmate/internal/output"
)

// TestViews renders the same rows through each kind of expression, as kubectl spells them.
func TestViews(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "expression")
	if err := os.WriteFile(file, []byte("{.items[0].size_bytes}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for format, want := range map[string]string{
		"jsonpath={.items[*].size_bytes}":                                        "10 9 100\n",
		"jsonpath=.items[0].size_bytes":                                          "10\n",
		"jsonpath={.items[?(@.size_bytes>50)].size_bytes}":                       "100\n",
		"jsonpath={range .items[*]}{.size_bytes}{\"\\n\"}{end}":                  "10\n9\n100\n",
		"jsonpath={.nosuch}":                                                     "",
		"jsonpath-file=" + file:                                                  "10\n",
		"go-template={{range .items}}{{.size_bytes}};{{end}}":                    "10;9;100;",
		"custom-columns=SIZE:.size_bytes,NONE:.nosuch":                           "SIZE   NONE\n10     <none>\n9      <none>\n100    <none>\n",
		"custom-columns=SCHEMA:{.size_bytes}":                                    "SCHEMA\n10\n9\n100\n",
		"go-template={{.schema}} {{len .items}} {{(index .items 2).size_bytes}}": "talosmate/v1/RowList 3 100",
	} {
		view, err := output.ParseView(format, os.ReadFile)
		if err != nil {
			t.Errorf("%s: %v", format, err)

			continue
		}

		if got, err := render(t, output.Printer{Format: output.JSON, View: view}, rows(), nil); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", format, got, err, want)
		}
	}
}

func TestBadViews(t *testing.T) {
	t.Parallel()

	for _, format := range []string{
		"jsonpath=", "jsonpath", "jsonpath={.items[", "go-template={{.x", "go-template={{}}", "custom-columns=", "custom-columns=A", "custom-columns=A:", "jsonpath-file=/nonexistent/file",
	} {
		if view, err := output.ParseView(format, os.ReadFile); err == nil || view != nil {
			t.Errorf("%s is taken", format)
		}
	}

	for _, format := range []string{"json", "table", "nosuch", "jsonpathological=x"} {
		if view, err := output.ParseView(format, os.ReadFile); err != nil || view != nil {
			t.Errorf("%s is taken for an expression: %v", format, err)
		}
	}
}

// TestViewOfAFailure: a script that asked for one value gets nothing, not a document of another shape.
func TestViewOfAFailure(t *testing.T) {
	t.Parallel()

	view, err := output.ParseView("jsonpath={.items[*].size_bytes}", os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}

	if got, err := render(t, output.Printer{Format: output.JSON, View: view}, nil, errors.New("cannot list on n1")); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}
