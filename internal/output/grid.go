package output

import (
	"io"
	"slices"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// How far cells are cut, in columns of the terminal.
const (
	comfortable = 24 // A cell is cut to this before a column is dropped.
	minimum     = 8  // A cell is never cut below this.
)

// The space between two columns.
const (
	gap   = 3
	tight = 2 // Where the table would not fit otherwise.
)

// grid is a table of ready cells.
type grid struct {
	columns []gridColumn
	rows    [][]string
}

type gridColumn struct {
	header string
	state  bool
	drop   int
	width  int
	hidden bool
}

// least is the narrowest that a column may become.
func (c gridColumn) least(limit int) int {
	return min(c.width, max(limit, displaywidth.String(c.header)))
}

// measure finds how wide the columns are.
func (t *grid) measure(layout Layout) {
	for i := range t.columns {
		c := &t.columns[i]

		if layout.Headers {
			c.width = displaywidth.String(c.header)
		}

		for _, row := range t.rows {
			c.width = max(c.width, displaywidth.String(row[i]))
		}
	}
}

// write writes the table as the layout says.
func (t *grid) write(w io.Writer, layout Layout) error {
	t.measure(layout)

	space := t.fit(layout.Width)

	if layout.Headers {
		headers := make([]string, len(t.columns))
		for i, c := range t.columns {
			headers[i] = c.header
		}

		if err := Paint(w, t.line(headers, space, func(int, string) iostreams.Style { return iostreams.Bold })...); err != nil {
			return err
		}
	}

	for _, row := range t.rows {
		if err := Paint(w, t.line(row, space, t.style)...); err != nil {
			return err
		}
	}

	return nil
}

// fit makes the columns fit a terminal, and returns the space between them. Cells are cut to a comfortable width; while
// that is not enough, columns are dropped; then cells are cut further. Without a width everything is shown.
func (t *grid) fit(width int) (space int) {
	if width <= 0 || t.total(gap) <= width {
		return gap
	}

	whole := slices.Clone(t.columns)

	for !t.cut(comfortable, width) {
		least := t.leastNeeded()
		if least < 0 {
			t.cut(minimum, width)

			break
		}

		for i := range whole {
			t.columns[i].width = whole[i].width
		}

		t.columns[least].hidden = true
	}

	return tight
}

// total is how wide the table is.
func (t *grid) total(space int) int {
	sum := -space

	for _, c := range t.columns {
		if !c.hidden {
			sum += c.width + space
		}
	}

	return sum
}

// cut narrows the widest columns first. It reports whether the table fits.
func (t *grid) cut(limit, width int) bool {
	for over := t.total(tight) - width; over > 0; over-- {
		widest := -1

		for i, c := range t.columns {
			if !c.hidden && c.width > c.least(limit) && (widest < 0 || c.width > t.columns[widest].width) {
				widest = i
			}
		}

		if widest < 0 {
			return false
		}

		t.columns[widest].width--
	}

	return true
}

// leastNeeded is the index of the column to drop first, -1 if all must stay.
func (t *grid) leastNeeded() int {
	least := -1

	for i, c := range t.columns {
		if !c.hidden && c.drop > 0 && (least < 0 || c.drop >= t.columns[least].drop) {
			least = i
		}
	}

	return least
}

// line is one line of the table.
func (t *grid) line(cells []string, space int, style func(i int, cell string) iostreams.Style) []iostreams.Span {
	var spans []iostreams.Span

	last := len(t.columns) - 1
	for last > 0 && t.columns[last].hidden {
		last--
	}

	for i, c := range t.columns {
		if c.hidden {
			continue
		}

		cell := fitCell(cells[i], c.width)
		spans = append(spans, iostreams.Span{Style: style(i, cells[i]), Text: cell})

		if i != last {
			spans = append(spans, iostreams.Span{Text: strings.Repeat(" ", c.width-displaywidth.String(cell)+space)})
		}
	}

	return append(spans, iostreams.Span{Text: "\n"})
}

func (t *grid) style(i int, cell string) iostreams.Style {
	if !t.columns[i].state {
		return ""
	}

	return stateStyle(cell)
}

// fitCell cuts text in its middle: of an image or a path, both ends say what it is.
func fitCell(s string, width int) string {
	if displaywidth.String(s) <= width {
		return s
	}

	var clusters []string
	for g := displaywidth.StringGraphemes(s); g.Next(); {
		clusters = append(clusters, g.Value())
	}

	head := take(clusters, width/2)

	slices.Reverse(clusters)

	tail := take(clusters, width-1-width/2)
	slices.Reverse(tail)

	return strings.Join(head, "") + "…" + strings.Join(tail, "")
}

// take returns the first characters that fit a width.
func take(clusters []string, width int) []string {
	for i, c := range clusters {
		if width -= displaywidth.String(c); width < 0 {
			return slices.Clone(clusters[:i])
		}
	}

	return slices.Clone(clusters)
}
