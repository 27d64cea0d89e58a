package fs

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/untar"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Copied is a file or tree that was copied from a node.
type Copied struct {
	talos.NodeRef
	untar.Summary

	Source           string  `json:"source"`            // The path on the node.
	Destination      string  `json:"destination"`       // Where it is now.
	TransferredBytes int64   `json:"transferred_bytes"` // What came over the wire, compressed.
	DurationSeconds  float64 `json:"duration_seconds"`  // How long it took.

	unread error // What the node could not read.
}

type cpOptions struct {
	overwrite bool
	now       func() time.Time
}

func newCmdCp(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &cpOptions{now: f.Now}

	return cmdutil.New(f, cmdutil.Command{
		Use: "cp PATH DEST", Aliases: []string{"copy"}, Short: "Copy a file or tree from a node",
		Long: "Copy a file or tree from a node. DEST becomes the copy or, where it is a directory already, gets the copy\n" +
			"as a new entry; several nodes get a directory each below it. The copy appears when all of it is there and\n" +
			"verified, never in part. Nothing is written outside of DEST: an archive that tries is refused, and links\n" +
			"that lead outside of what is copied are skipped and listed. So are files that the node itself could not\n" +
			"read, which makes the exit code 4. DEST - writes the node's tar.gz to stdout.",
		Example: "  talosmate fs cp /var/log/audit -n cp-1 ./audit\n" +
			"  talosmate fs cp /etc/kubernetes -n cp-1 - | tar tz",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace what is at the destination")
		},
		Complete: completeCopy,
	}, cmdutil.ListOf[Copied]("CopyList"), o.run)
}

func (o *cpOptions) run(c *cmdutil.Call) error {
	source, dest := c.Args[0], c.Args[1]
	if err := absolute(source); err != nil {
		return err
	}

	if dest == "-" {
		c.RawOutput()
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	several := len(targets.Nodes) > 1

	names, err := cmdutil.FileNames(targets.Nodes)
	if err != nil {
		return err
	}

	if dest == "-" {
		if several {
			return errs.Usagef("the archives of %d nodes would run into each other", len(targets.Nodes)).WithHint("%s", c.Again("-n", "NODE"))
		}

		return o.stream(c, targets.Nodes[0], source)
	}

	rows, err := cmdutil.StreamRows(c, func(ctx context.Context, n *talos.Node) ([]Copied, error) {
		to := dest
		if several {
			to = filepath.Join(dest, names[n.Address]) + string(filepath.Separator)
		}

		row, err := o.copy(ctx, c, n, source, to)

		return []Copied{row}, err
	})

	for _, r := range rows {
		for _, s := range r.Skipped {
			c.Warn("%s: %s was skipped: %s", r.NodeName(), s.Path, s.Reason)
		}
	}

	err = incomplete(rows, err)

	return cmdutil.PrintList(c, rows, err, []output.Column[Copied]{
		{Header: "NODE", Value: Copied.NodeName},
		{Header: "SOURCE", Value: func(r Copied) string { return r.Source }},
		{Header: "DESTINATION", Value: func(r Copied) string { return r.Destination }},
		{Header: "FILES", Value: func(r Copied) string { return strconv.Itoa(r.Files) }},
		{Header: "SIZE", Value: func(r Copied) string { return output.Bytes(r.SizeBytes) }},
		{Header: "SKIPPED", Value: func(r Copied) string { return strconv.Itoa(len(r.Skipped)) }},
	}, func(r Copied) string { return r.Destination })
}

// incomplete adds the nodes that could not read all of what was to be copied to those that failed: what they could
// read is there.
func incomplete(rows []Copied, err error) error {
	out := &errs.Nodes{Succeeded: len(rows)}

	if failed := (*errs.Nodes)(nil); errors.As(err, &failed) {
		out.Errors = append(out.Errors, failed.Errors...)
	} else if err != nil {
		return err
	}

	for _, r := range rows {
		if r.unread != nil {
			out.Errors = append(out.Errors, talos.AsNodeError(talos.Target{Address: r.Node, Hostname: r.Hostname}, r.unread))
		}
	}

	if len(out.Errors) == 0 {
		return nil
	}

	return out
}

func (o *cpOptions) stream(c *cmdutil.Call, t talos.Target, source string) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	if c.IO.OutTTY {
		return errs.Usagef("an archive is nothing for a terminal").WithHint("redirect stdout, or name a destination")
	}

	return cluster.Node(t).CopyOut(c.Context(), source, func(chunk []byte) error {
		_, err := c.IO.Out.Write(chunk)

		return err
	})
}

func (o *cpOptions) copy(ctx context.Context, c *cmdutil.Call, n *talos.Node, source, dest string) (Copied, error) {
	out := Copied{Source: source}
	start := o.now()

	tree, err := n.IsDirectory(ctx, source)
	if err != nil {
		return out, err
	}

	var unread []talos.UnreadFile

	how := untar.Options{Source: source, Tree: tree, Overwrite: o.overwrite}
	out.Destination, out.Summary, err = untar.Into(dest, how, func(w io.Writer) error {
		told := time.Time{}

		err := n.CopyOut(ctx, source, func(chunk []byte) error {
			out.TransferredBytes += int64(len(chunk))

			if now := o.now(); now.Sub(told) > 200*time.Millisecond {
				told = now
				c.Progress().Emit(progress.Event{
					Time: now, Node: n.Name(), Stage: "copy", Message: source, Current: out.TransferredBytes,
				})
			}

			_, err := w.Write(chunk)

			return err
		})

		if left := (*talos.Unread)(nil); errors.As(err, &left) {
			out.unread, unread = err, left.Files

			return nil // the archive is whole without them
		}

		return err
	})

	if err != nil && out.unread != nil {
		err = out.unread // a file that changes while it is read breaks the archive: the node says which
	}

	for _, f := range unread {
		out.Skipped = append(out.Skipped, untar.Skipped{Path: f.Path, Reason: f.Reason})
	}

	out.DurationSeconds = o.now().Sub(start).Seconds()

	return out, n.Blame("copy "+source, err)
}
