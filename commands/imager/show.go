package imager

import (
	"errors"
	"fmt"
	"io"

	"github.com/kballard/go-shellquote"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func productNames(r imager.Result) string {
	return lists.Join(r.Files, "\n", func(f imager.Product) string { return f.Path })
}

func showBuild(w io.Writer, r imager.Result) error {
	if r.Changes != nil {
		return showChanges(w, r.Changes)
	}

	if r.DryRun {
		line := shellquote.Join(r.Command...)
		if r.Document != "" {
			line += " <<'END'\n" + r.Document + "END"
		}

		_, err := fmt.Fprintln(w, line)

		return err
	}

	if err := output.WriteTable(w, []output.Column[imager.Product]{
		{Header: "FILE", Value: func(p imager.Product) string { return p.Path }},
		{Header: "SIZE", Value: func(p imager.Product) string { return output.Bytes(p.SizeBytes) }},
		{Header: "SHA256", Value: func(p imager.Product) string { return p.SHA256 }},
	}, r.Files); err != nil {
		return err
	}

	var err error

	if r.Loaded != "" {
		_, err = fmt.Fprintf(w, "loaded as %s\n", r.Loaded)
	}

	if r.Pushed != nil {
		_, pushErr := fmt.Fprintf(w, "pushed %s\n", r.Pushed.Pinned)
		err = errors.Join(err, pushErr)
	}

	return err
}

func showChanges(w io.Writer, changes []imager.Change) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing would change")

		return err
	}

	return output.WriteTable(w, []output.Column[imager.Change]{
		{Header: "WHAT", Value: func(c imager.Change) string { return c.Subject }},
		{Header: "LOCKED", Value: func(c imager.Change) string { return c.Locked }},
		{Header: "NOW", Value: func(c imager.Change) string { return c.Now }},
	}, changes)
}
