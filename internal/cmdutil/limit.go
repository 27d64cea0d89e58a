package cmdutil

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/kballard/go-shellquote"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/audit"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
)

// The flags that bound what is printed.
const (
	maxItems = "max-items"
	maxBytes = "max-bytes"
)

// limitOf reads how much may be printed. The result of a change is never cut, and what is bytes neither: there a setting has
// no effect, and a flag is refused.
func limitOf(flags *pflag.FlagSet, s Spec) (output.Limit, error) {
	var limit output.Limit

	for _, name := range []string{maxItems, maxBytes} {
		f := flags.Lookup(name)
		if f == nil || f.Value.Type() != map[string]string{maxItems: "int", maxBytes: "string"}[name] {
			continue // the command has a flag of its own by this name
		}

		set := f.Changed && !slices.Contains([]string{"", "0"}, f.Value.String())

		switch {
		case set && s.Kind != Read:
			return limit, errs.Usagef("--%s is for reads: the result of a change is never cut", name)
		case set && s.Schema == "":
			return limit, errs.Usagef("--%s is for documents and tables, and this command writes neither", name)
		}
	}

	if s.Kind != Read || s.Schema == "" {
		return limit, nil
	}

	limit.Items, _ = flags.GetInt(maxItems)
	text, _ := flags.GetString(maxBytes)

	if text == "" || text == "0" {
		return limit, nil
	}

	size, err := humanize.ParseBytes(text)
	if err != nil || size < output.LeastBytes || size > 1<<40 {
		return limit, errs.Usagef("bad --%s %q: want a size of %d bytes or more", maxBytes, text, output.LeastBytes).WithHint("such as 8KiB or 20000")
	}

	limit.Bytes = int(size)

	return limit, nil
}

// wholeFirst refuses a number of items where an expression chooses: it works on the whole document.
func (c *Call) wholeFirst() error {
	if f := c.Cmd.Flags().Lookup(maxItems); f == nil || !f.Changed || c.Printer.Limit.Items == 0 {
		return nil
	}

	if c.Printer.Query != "" || c.Printer.View != nil {
		return errs.Usagef("--%s cuts the rows of a document, and an expression chooses its own", maxItems).
			WithHint("%s", c.Again("--max-items=0", fmt.Sprintf("--query=.items[:%d]", c.Printer.Limit.Items)))
	}

	return nil
}

// narrow is the command line without what shapes its output, for a hint that adds a query to it.
func (c *Call) narrow() string {
	return c.line([]string{maxItems, maxBytes, "output", "query", "sort-by", "no-headers", "no-color", "verbose"}, nil)
}

// Again is the command line with what it lacks, for a hint: the flags it has, without secrets, and the further words. A flag
// among those takes the place of the one that was given.
func (c *Call) Again(words ...string) string {
	var given []string

	for _, word := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")

		switch f := c.Cmd.Flags().Lookup(name); {
		case !strings.HasPrefix(word, "-"):
		case f != nil:
			given = append(given, f.Name)
		case len(name) == 1 && c.Cmd.Flags().ShorthandLookup(name) != nil:
			given = append(given, c.Cmd.Flags().ShorthandLookup(name).Name)
		}
	}

	return c.line(given, words)
}

// line is the command line without some flags and with further words.
func (c *Call) line(without, further []string) string {
	words := strings.Fields(c.Cmd.CommandPath())

	c.Cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, old := f.Value.(*alias); old || slices.Contains(without, f.Name) {
			return
		}

		switch value := f.Value.(type) {
		case pflag.SliceValue:
			var text strings.Builder

			w := csv.NewWriter(&text)
			_ = w.Write(value.GetSlice()) // a strings.Builder takes everything
			w.Flush()
			words = append(words, "--"+f.Name+"="+strings.TrimSuffix(text.String(), "\n"))
		default:
			if f.NoOptDefVal == f.Value.String() {
				words = append(words, "--"+f.Name)
			} else {
				words = append(words, "--"+f.Name+"="+f.Value.String())
			}
		}
	})

	return shellquote.Join(append(audit.Redact(append(words, c.Args...)), further...)...)
}

// narrowStream is how to ask a stream for less, with the flags that the command has.
func (c *Call) narrowStream() string {
	line := c.narrow()

	for _, flag := range []struct{ name, value string }{{"filter", "TEXT"}, {"tail", "20"}, {"min-level", "warn"}, {"since", "10m"}} {
		if f := c.Cmd.Flags().Lookup(flag.name); f != nil && !f.Changed {
			line += " --" + flag.name + " " + flag.value

			if flag.name == "tail" {
				break
			}
		}
	}

	return line
}
