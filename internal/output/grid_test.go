package output

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"
	"github.com/stretchr/testify/require"
)

// shot is one row of the tables below.
type shot struct{ node, state, image, message string }

func shotColumns() []Column[shot] {
	return []Column[shot]{
		{Header: "NODE", Value: func(s shot) string { return s.node }},
		{Header: "STATE", State: true, Value: func(s shot) string { return s.state }},
		{Header: "IMAGE", Value: func(s shot) string { return s.image }},
		{Header: "NOTE", Drop: 1, Value: func(s shot) string { return s.message }},
		{Header: "EXTRA", Drop: 2, Value: func(s shot) string { return s.message }},
		{Header: "RAW", Wide: true, Value: func(s shot) string { return s.image }},
	}
}

func shots() []shot {
	return []shot{
		{"cp-1", "running", "registry.example.com/kube-controller-manager:v1.35.4", "five words of this length"},
		{"工作节点-1", "no answer", "a", "短い説明文です、とても短い説明文です"},
		{"w-2", "unknown", strings.Repeat("x", 300), "\x1b[31mred\x07"},
	}
}

// written writes the rows as a terminal of a width gets them.
func written(t *testing.T, width int, color bool, format Format) string {
	t.Helper()

	var out bytes.Buffer

	p := &Printer{Out: &out, Format: format, Now: time.Now}
	if width > 0 {
		p.Screen = func() (int, bool) { return width, color }
	}

	require.NoError(t, PrintList(p, shots(), nil, shotColumns(), nil))

	return out.String()
}

// TestTableFits checks that a table fits every terminal that has room for the least of its columns.
func TestTableFits(t *testing.T) {
	for width := 30; width <= 500; width++ {
		for line := range strings.Lines(written(t, width, false, Table)) {
			require.LessOrEqual(t, displaywidth.String(strings.TrimSuffix(line, "\n")), width, "%q", line)
		}
	}
}

// TestTableShrinks checks what is cut and dropped first.
func TestTableShrinks(t *testing.T) {
	for _, tt := range []struct {
		width   int
		headers string
		has     string
	}{
		{100, "NODE STATE IMAGE NOTE EXTRA", "registry.exa…ger:v1.35.4"},
		{76, "NODE STATE IMAGE NOTE", "registry.exa…ager:v1.35.4"},
		{70, "NODE STATE IMAGE", "registry.example.com/ku…troller-manager:v1.35.4"},
		{50, "NODE STATE IMAGE", "registry.exam…nager:v1.35.4"},
		{36, "NODE STATE IMAGE", "regist…1.35.4"},
	} {
		text := written(t, tt.width, false, Table)
		header, _, _ := strings.Cut(text, "\n")
		require.Equal(t, tt.headers, strings.Join(strings.Fields(header), " "), "%d columns:\n%s", tt.width, text)
		require.Contains(t, text, tt.has, "%d columns", tt.width)
	}
}

// TestTableIsWhole checks that nothing is cut in a pipe, nor for -o wide.
func TestTableIsWhole(t *testing.T) {
	for _, text := range []string{written(t, 0, false, Table), written(t, 40, false, Wide)} {
		require.Contains(t, text, strings.Repeat("x", 300))
		require.NotContains(t, text, "…")
		require.Contains(t, text, "EXTRA")
	}

	require.Contains(t, written(t, 40, false, Wide), "RAW")
	require.NotContains(t, written(t, 0, false, Table), "RAW")
}

// TestTableColour checks that state words have colours, that nothing has without a terminal in colour, and that the
// only sequences are those of this program.
func TestTableColour(t *testing.T) {
	text := written(t, 120, true, Table)
	require.Contains(t, text, "\x1b[32mrunning\x1b[0m")
	require.Contains(t, text, "\x1b[31mno answer\x1b[0m")
	require.Contains(t, text, "\x1b[33munknown\x1b[0m")
	require.Contains(t, text, "\x1b[1mNODE\x1b[0m")

	ours := regexp.MustCompile(`\x1b\[(0|1|31|32|33)m`)
	require.Equal(t, written(t, 120, false, Table), ours.ReplaceAllString(text, ""))
	require.NotContains(t, ours.ReplaceAllString(text, ""), "\x1b")

	for line := range strings.Lines(text) {
		require.Equal(t, strings.Count(line, "\x1b[0m")*2, strings.Count(line, "\x1b["), "every colour ends on its line: %q", line)
	}
}

// TestShort checks that hashes are shortened, and nothing else.
func TestShort(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)

	for _, tt := range [][2]string{
		{"", ""},
		{hash, "0123456789ab"},
		{"sha256:" + hash, "sha256:0123456789ab"},
		{"r.example/installer/" + hash + ":v1.14.1", "r.example/installer/0123456789ab:v1.14.1"},
		{hash + "0", hash + "0"},
		{"é" + hash + "é", "é0123456789abé"},
		{"deadbeef", "deadbeef"},
	} {
		require.Equal(t, tt[1], Short(tt[0]))
	}
}

// TestFacts checks that values are cut for a terminal only.
func TestFacts(t *testing.T) {
	long := strings.Repeat("v", 200)

	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, "Health:        healthy, 3 members\nImage:         " + long + "\n"},
		{40, fmt.Sprintf("Health:        healthy, 3 members\nImage:         %s…%s\n", long[:12], long[:12])},
	} {
		var out bytes.Buffer

		p := &Printer{Out: &out, Format: Table, Screen: func() (int, bool) { return tt.width, false }}
		require.NoError(t, Facts(p.Text(), [][2]string{{"Health", "healthy, 3 members"}, {"Left out", ""}, {"Image", long}}))
		require.Equal(t, tt.want, out.String())
	}
}
