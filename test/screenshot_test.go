//go:build unix

package test

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"
)

// TestScreenshots takes the pictures of docs/screenshots from a terminal. `make screenshots` writes them; the test always
// checks that a picture shows what it is about and is well formed, and that the committed ones are as wide as it.
func TestScreenshots(t *testing.T) {
	t.Parallel()

	const width = 100

	f := startLab(t, "--talos-version", "v1.14.0", "--preset", "factory", "--boot-time", "3s")
	program := filepath.Join(f.bin, "talosmate")
	upgrade := []string{"upgrade", "apply", "--to", "v1.14.1", "--check-images=false", "--drain=false", "--snapshot=none", "--yes", "-A"}

	for _, p := range []struct {
		name   string
		height int
		line   []string
		await  []string // What the screen shows when the picture is taken.
		keys   string   // What ends the program.
	}{
		{"health", 60, []string{"health"}, []string{"STATUS", "healthy: "}, ""},
		{"plan", 14, []string{"upgrade", "plan", "--to", "v1.14.1", "--check-images=false"}, []string{"ROLE", "v1.14.0 -> v1.14.1", "plan "}, ""},
		{"diff", 14, []string{"machineconfig", "diff", "-n", "cp-1,cp-2"}, []string{"cp-2, against cp-1:"}, ""},
		{"top", 18, []string{"top"}, []string{"5/5 ready", "leader", "healthy"}, "q"},
		{"upgrade", 10, upgrade, []string{"cp-1", "wait      ", "cp-2", "cp-3"}, ""},
	} {
		s := onScreen(t, width, p.height, append(f.env, "NO_COLOR="), program, p.line...)
		text := s.awaitText(p.await...)

		if p.keys == "" && p.name != "upgrade" {
			<-s.ended

			text = strings.Join(s.lines(), "\n")
		}

		picture := s.picture("talosmate " + strings.Join(p.line, " "))

		if p.keys != "" {
			s.press(p.keys)
		}

		<-s.ended

		for _, word := range p.await {
			require.Contains(t, text, word, p.name)
		}

		require.NoError(t, xml.Unmarshal([]byte(picture), new(struct {
			XMLName xml.Name `xml:"svg"`
		})), p.name)
		require.Greater(t, strings.Count(picture, "<text "), 3, p.name)

		path := filepath.Join("..", "docs", "screenshots", p.name+".svg")

		if os.Getenv("TALOSMATE_WRITE_SCREENSHOTS") != "" {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(picture), 0o644))
		}

		committed, err := os.ReadFile(path)
		require.NoError(t, err, "`make screenshots` writes it")

		size, _, _ := strings.Cut(picture, ">")
		require.True(t, strings.HasPrefix(string(committed), size), "%s: the committed picture has another size", p.name)
	}
}

// Cells of a picture.
const (
	cellWidth  = 8
	cellHeight = 18
	margin     = 12
)

// picture draws the screen as an SVG picture, below its command line.
func (s *screen) picture(title string) string {
	s.mu.Lock()
	defer s.mu.Unlock()

	width, height := s.terminal.Width()*cellWidth+2*margin, (s.terminal.Height()+1)*cellHeight+2*margin

	var out strings.Builder

	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%[3]s">`+"\n",
		width, height, escaped(title))
	fmt.Fprintf(&out, `<rect width="%d" height="%d" rx="8" fill="#0d1117"/>`+"\n", width, height)
	out.WriteString(`<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="13" fill="#e6edf3">` + "\n")

	run := func(x, y int, text, attributes string) {
		if text = strings.TrimRight(text, " "); text == "" {
			return
		}

		fmt.Fprintf(&out, `<text x="%d" y="%d" textLength="%d"%s>%s</text>`+"\n",
			margin+x*cellWidth, margin+(y+1)*cellHeight-4, ansi.StringWidth(text)*cellWidth, attributes, strings.ReplaceAll(escaped(text), " ", "\u00a0")) // Browsers collapse other spaces.
	}

	run(0, 0, "$ "+title, ` fill="#8b949e"`)

	for y := range s.terminal.Height() {
		from, text, look := 0, "", ""

		for x := range s.terminal.Width() {
			cell := s.terminal.CellAt(x, y)
			if cell == nil || cell.Width == 0 {
				continue
			}

			if now := attributes(cell.Style); now != look {
				run(from, y+1, text, look)
				from, text, look = x, "", now
			}

			text += cell.Content
		}

		run(from, y+1, text, look)
	}

	return out.String() + "</g>\n</svg>\n"
}

// attributes are a cell's colour and weight.
func attributes(style uv.Style) string {
	var out string

	if style.Attrs&uv.AttrBold != 0 {
		out += ` font-weight="bold"`
	}

	if basic, ok := style.Fg.(ansi.BasicColor); ok {
		colours := map[ansi.BasicColor]string{
			ansi.Red: "#ff7b72", ansi.Green: "#56d364", ansi.Yellow: "#e3b341", ansi.Magenta: "#d2a8ff", ansi.Cyan: "#76e3ea", ansi.Blue: "#79c0ff",
		}
		if c, known := colours[basic]; known {
			out += fmt.Sprintf(` fill="%s"`, c)
		}
	}

	return out
}

func escaped(text string) string {
	var out strings.Builder

	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder takes everything

	return out.String()
}
