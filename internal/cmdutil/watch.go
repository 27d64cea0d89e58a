package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/poll"
)

// refresh is the summary line that ends each round of a watched list.
type refresh struct {
	output.Summary

	Time time.Time `json:"time"` // When the round was over.
}

// watchList lists at an interval until the command is interrupted. A terminal shows the last list only; a
// pipe gets one after the other; ndjson gets the rows of each round and then a summary line. A node that
// goes down while it is watched is an error of the round; the watch continues and finds it again.
func watchList[T any](c *Call, l NodeList[T], round func() ([]T, error)) error {
	ndjson := c.Printer.Format == output.NDJSON && c.Printer.Query == ""
	if !ndjson && (c.Printer.Structured() || c.Printer.Format == output.Name) {
		return errs.Usagef("a watch has no end, and -o %s wants one document", c.Printer.Format).WithHint("use -o ndjson")
	}

	stream := output.NewStream(c.Printer.Out, c.Printer.Schema)

	for first := true; ; first = false {
		rows, err := round()
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}

		if first && len(rows) == 0 && err != nil {
			return err
		}

		c.printed = true

		if ndjson {
			err = writeRound(c, stream, rows, err)
		} else {
			err = drawRound(c, l, rows, err)
		}

		if err != nil {
			return err
		}

		if err = poll.Pause(c.ctx, l.Every()); err != nil {
			return err
		}
	}
}

func writeRound[T any](c *Call, s *output.Stream, rows []T, err error) error {
	written := 0

	for _, row := range rows {
		var unfit *errs.Error

		switch werr := s.Item(row); {
		case errors.As(werr, &unfit):
			err = errors.Join(err, unfit)
		case werr != nil:
			return werr
		default:
			written++
		}
	}

	entries := errs.Entries(err)
	for _, e := range entries {
		if werr := s.Error(e); werr != nil {
			return werr
		}
	}

	return s.Summary(refresh{output.Summary{Items: written, Errors: len(entries)}, c.factory.Now().UTC()})
}

func drawRound[T any](c *Call, l NodeList[T], rows []T, err error) error {
	if c.IO.OutTTY {
		if werr := iostreams.Draw(c.Printer.Out, iostreams.ClearScreen, ""); werr != nil {
			return werr
		}
	}

	for _, e := range errs.Entries(err) {
		c.Warn("%s", e.Message)
	}

	if werr := l.Print(c, rows, nil); werr != nil {
		return werr
	}

	if c.IO.OutTTY {
		return nil
	}

	_, werr := fmt.Fprintln(c.Printer.Out)

	return werr
}
