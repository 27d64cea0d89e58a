package page_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/page"
)

const evil = `</td><script>alert(1)</script><img src=http://evil/x onerror=alert(1)> "' {{.}} <!-- javascript:alert(1)` + "\x1b[31m\u202e\nnext"

// TestHostileText puts markup into every text of a page: it stays text.
func TestHostileText(t *testing.T) {
	t.Parallel()

	var out bytes.Buffer

	err := page.Write(&out, page.Page{
		Title: evil, Verdict: evil, State: page.Bad, Made: time.Unix(0, 0), By: evil, Facts: []page.Fact{{Name: evil, Value: evil}, {Name: "none"}},
		Sections: []page.Section{
			{Title: evil, Columns: []string{evil, "b"}, Rows: [][]page.Cell{{{Text: evil, Note: evil, State: page.Warning}, {Text: "token=SECRET-1"}, {Text: "more than columns"}}}},
			{Title: "empty", Empty: evil},
			{Title: "omitted"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	text := out.String()

	tags := map[string]bool{}
	for _, tag := range regexp.MustCompile(`<[a-zA-Z!/][a-zA-Z0-9]*`).FindAllString(text, -1) {
		tags[tag] = true
	}

	for _, bad := range []string{"<script", "<img", "<!--", "<a", "<link", "<iframe", "<svg"} {
		if tags[bad] {
			t.Errorf("the page has %s", bad)
		}
	}

	for _, bad := range []string{"\x1b", "\u202e", "SECRET-1", "url(", "@import", "src=\"", "href", ">omitted<", ">none<"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}

	// It is well-formed: every element that begins ends, except meta.
	dec := xml.NewDecoder(strings.NewReader(text))
	dec.Strict, dec.AutoClose, dec.Entity = false, []string{"meta"}, xml.HTMLEntity

	depth := 0

	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			t.Fatal(err)
		}

		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
	}

	if depth != 0 {
		t.Errorf("%d elements do not end", depth)
	}
}

func TestSave(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "report.html")
	if err := page.Save(path, page.Page{Title: "a"}); err != nil {
		t.Fatal(err)
	}

	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
