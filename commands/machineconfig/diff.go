package machineconfig

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Difference is one difference of a node's machine configuration from what it is compared with.
type Difference struct {
	talos.NodeRef
	machineconfig.Change

	Against string `json:"against"` // The file or the node it is compared with.
}

type diffOptions struct {
	file        string
	showSecrets bool
}

func newCmdDiff(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &diffOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "diff", Short: "Compare configurations with a file or with each other",
		Long: "Compare configurations path by path: each node's with a file, or without one with that of the first chosen\n" +
			"node of the same machine type. Exit code 3 says that they differ. Comments, the order of keys and quoting\n" +
			"make no difference; secrets are compared and not shown.",
		Example: "  talosmate machineconfig diff -f controlplane.yaml --controlplanes\n" +
			"  talosmate mc diff -A -o json --query '.items[].path'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultMembers, Question: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVarP(&o.file, "file", "f", "", "the configuration `file` to compare with, - for stdin")
			fs.BoolVar(&o.showSecrets, "show-secrets", false, "show secrets")
		},
	}, cmdutil.ListOf[Difference]("MachineConfigDiff"), o.run)
}

// held is a node's configuration.
type held struct {
	talos.NodeRef
	config machineconfig.Config
}

func (o *diffOptions) run(c *cmdutil.Call) error {
	raw := c.RawOutput()

	var want machineconfig.Config

	if o.file != "" {
		text, err := c.Input(o.file, "the machine configuration")
		if err != nil {
			return err
		}

		if want, err = machineconfig.Parse(text); err != nil {
			return err
		}
	}

	nodes, err := cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]held, error) {
		_, cfg, err := read(ctx, n)

		return []held{{config: cfg}}, err
	})
	if err != nil && len(nodes) == 0 {
		return err
	}

	if o.file == "" && len(nodes) < 2 && err == nil {
		return errs.Usagef("one node has nothing to be compared with").WithHint("%s", c.Again("-f", "FILE"))
	}

	rows := o.compare(nodes, want)

	if len(rows) > 0 {
		err = errors.Join(err, errs.New(errs.Negative, "the machine configurations differ (differences: %d)", len(rows)))
	}

	for _, d := range rows {
		c.Annotate(cmdutil.ChangeFinding(d.Change, "machine configuration of "+d.NodeName(), o.file))
	}

	if raw {
		return errors.Join(err, c.Printer.People(func(w io.Writer) error { return writeDiff(w, rows) }))
	}

	return cmdutil.PrintList(c, rows, err, []output.Column[Difference]{}, func(d Difference) string { return d.Path })
}

// compare compares every node with the file, or with the first node of its type.
func (o *diffOptions) compare(nodes []held, want machineconfig.Config) []Difference {
	rows := []Difference{}
	first := map[string]held{}

	for _, n := range nodes {
		from, against := want, o.file

		if o.file == "" {
			base, there := first[n.config.Type()]
			if !there {
				first[n.config.Type()] = n

				continue
			}

			from, against = base.config, base.NodeName()
		}

		for _, change := range machineconfig.Diff(from, n.config, o.showSecrets) {
			rows = append(rows, Difference{NodeRef: n.NodeRef, Change: change, Against: against})
		}
	}

	return rows
}

func writeDiff(w io.Writer, rows []Difference) error {
	node := ""

	for _, r := range rows {
		if r.Node != node {
			node = r.Node
			if err := output.Heading(w, fmt.Sprintf("%s, against %s:", r.NodeName(), r.Against)); err != nil {
				return err
			}
		}

		if err := writeChange(w, "", r.Change); err != nil {
			return err
		}
	}

	return nil
}

// writeChange shows a change as + added, - removed or ~ changed.
func writeChange(w io.Writer, indent string, c machineconfig.Change) error {
	mark, style, values := "~", iostreams.Yellow, blob(c.From)+" -> "+blob(c.To)

	switch c.Op {
	case machineconfig.Add:
		mark, style, values = "+", iostreams.Green, blob(c.To)
	case machineconfig.Remove:
		mark, style, values = "-", iostreams.Red, blob(c.From)
	}

	return output.Paint(w,
		iostreams.Span{Text: indent},
		iostreams.Span{Style: style, Text: output.Fit(w, output.Line(fmt.Sprintf("%s %s %s: %s", mark, c.Document, c.Path, values)), len(indent))},
		iostreams.Span{Text: "\n"})
}

// blobLimit is the length from which a value in base64 is shown as its size and hash.
const blobLimit = 64

// blob shows a value; one in base64, of which nobody can read more, by its size and hash.
func blob(value string) string {
	if len(value) < blobLimit {
		return value
	}

	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return value
	}

	return fmt.Sprintf("base64 of %s, sha256:%.12x", output.Bytes(uint64(len(raw))), sha256.Sum256(raw))
}
