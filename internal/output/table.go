package output

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
)

// Column is one column of a table over rows of type T.
type Column[T any] struct {
	Header string
	Wide   bool // Shown by -o wide only.
	State  bool // Its words have a colour on a terminal.
	Drop   int  // A terminal that is too narrow does without the columns with the highest number first; 0 always stays.
	Value  func(T) string
}

// WriteTable writes rows as aligned columns; text from nodes is made safe for a terminal. On a terminal, columns are cut
// and dropped until the table fits, unless -o wide was asked for.
func WriteTable[T any](w io.Writer, cols []Column[T], rows []T) error {
	return writeTable(w, Columns(cols), Rows(rows))
}

func writeTable(w io.Writer, cols []Column[any], rows []any) error {
	layout := layoutOf(w)

	return gridOf(cols, rows, layout).write(w, layout)
}

// Width is how wide the table of these rows is in a pipe, where nothing is cut.
func Width[T any](cols []Column[T], rows []T) int {
	layout := Layout{Headers: true}
	t := gridOf(Columns(cols), Rows(rows), layout)
	t.measure(layout)

	return t.total(gap)
}

// Rows makes one type of all rows: the code that shows them exists once, not once for each type.
func Rows[T any](rows []T) []any {
	out := make([]any, len(rows))
	for i := range rows {
		out[i] = rows[i]
	}

	return out
}

// Row gives a row of Rows its type again; nil becomes the zero value.
func Row[T any](row any) T {
	typed, _ := row.(T) //nolint:errcheck // nil is of no type

	return typed
}

// Columns makes columns over the rows that Rows makes.
func Columns[T any](cols []Column[T]) []Column[any] {
	out := make([]Column[any], len(cols))
	for i, c := range cols {
		out[i] = Column[any]{Header: c.Header, Wide: c.Wide, State: c.State, Drop: c.Drop, Value: func(row any) string {
			return c.Value(Row[T](row))
		}}
	}

	return out
}

func gridOf(cols []Column[any], rows []any, layout Layout) *grid {
	shown := lists.Filter(cols, func(c Column[any]) bool { return layout.Wide || !c.Wide })

	t := &grid{columns: lists.Map(shown, func(c Column[any]) gridColumn { return gridColumn{header: c.Header, state: c.State, drop: c.Drop} })}

	for _, row := range rows {
		t.rows = append(t.rows, lists.Map(shown, func(c Column[any]) string { return Cell(c.Value(row)) }))
	}

	return t
}

// addFailures adds a row for each node that failed, which is its error, and a column for the errors if there are any.
func addFailures(cols []Column[any], rows []any, failures []errs.Entry) ([]Column[any], []any) {
	all := slices.Clone(rows)

	for i, e := range failures {
		if e.Node != "" {
			all = append(all, &failures[i])
		}
	}

	out := lists.Map(cols, func(c Column[any]) Column[any] {
		value := c.Value
		c.Value = func(row any) string {
			failed, is := row.(*errs.Entry)

			switch {
			case !is:
				return value(row)
			case c.Header == "NODE":
				return cmp.Or(failed.Hostname, failed.Node)
			case c.Header == "ADDRESS":
				return failed.Node
			default:
				return ""
			}
		}

		return c
	})

	if len(all) > len(rows) {
		out = append(out, Column[any]{Header: "ERROR", Value: func(row any) string {
			if failed, is := row.(*errs.Entry); is {
				return failed.Message
			}

			return ""
		}})
	}

	return out, all
}

// Cell makes a value fit one table cell: not empty, one line of limited length, no control sequences.
func Cell(s string) string {
	if s == "" {
		return "-"
	}

	return iostreams.Cut(iostreams.Line(s), cellLimit)
}

// cellLimit is how many characters of a value a table shows; documents have the whole value.
const cellLimit = 1024

// Short shortens what a table would be too wide for: each hash of 64 hexadecimal digits to its first twelve, as container
// engines show image IDs. Documents and -o wide have it whole.
func Short(s string) string {
	var out strings.Builder

	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
		if n < 0 {
			n = len(s)
		}

		if n == 64 {
			out.WriteString(s[:12])
		} else {
			out.WriteString(s[:n])
		}

		if s = s[n:]; s != "" {
			_, size := utf8.DecodeRuneInString(s)
			out.WriteString(s[:size])
			s = s[size:]
		}
	}

	return out.String()
}

// Line makes one line of foreign text, without anything that a terminal could interpret.
func Line(s string) string { return iostreams.Line(s) }

// Count shows a number of things: "1 image", "2 images".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	return fmt.Sprintf("%d %ss", n, noun)
}

// Bytes shows a size in IEC units.
func Bytes[N ~int64 | ~uint64](n N) string {
	if n < 0 {
		return "-"
	}

	return humanize.IBytes(uint64(n))
}

// Seconds shows a duration that a document holds as seconds.
func Seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}

// Percent shows a ratio of 0 to 1.
func Percent(ratio float64) string { return fmt.Sprintf("%.1f%%", ratio*100) }

// Age writes a duration in its largest unit, as Kubernetes shows ages.
func Age(d time.Duration) string {
	const day = 24 * time.Hour

	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	}
}

// Time shows a time stamp in UTC, a dash for none.
func Time(t time.Time) string {
	if t.IsZero() {
		return "-"
	}

	return t.UTC().Format(time.RFC3339)
}

// YesNo shows a boolean.
func YesNo(b bool) string {
	if b {
		return "yes"
	}

	return "no"
}
