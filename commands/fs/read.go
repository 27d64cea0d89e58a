package fs

import (
	"context"
	"encoding/base64"
	"unicode/utf8"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Content is what a file of a node holds.
type Content struct {
	talos.NodeRef

	Path      string `json:"path"`       // The path on the node.
	SizeBytes int64  `json:"size_bytes"` // How many bytes are in content.
	Truncated bool   `json:"truncated"`  // Whether the file holds more than --max-bytes.
	Encoding  string `json:"encoding"`   // How content is written: utf-8 or, for other bytes, base64.
	Content   string `json:"content"`    // The bytes.
}

// documentLimit bounds what a document holds in memory when --max-bytes does not.
const documentLimit = 16 << 20

type readOptions struct {
	max int64
}

func newCmdRead(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &readOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "read PATH", Aliases: []string{"cat"}, Short: "Show a file of a node",
		Long: "Write a file's bytes to stdout exactly as the node sends them. With -o json several nodes can be read at\n" +
			"once; a document holds at most 16 MiB a file unless --max-bytes says otherwise, and reports whether it was cut.",
		Example: "  talosmate fs read /etc/os-release -n cp-1\n" +
			"  talosmate fs read /proc/cmdline -A -o json --query '.items[] | [.hostname, .content]'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.Int64Var(&o.max, "max-bytes", 0, "read at most this many bytes, 0 for all")
			fs.NotNegative("max-bytes")
		},
		Complete: completePath,
	}, cmdutil.ListOf[Content]("FileContentList"), o.run)
}

func (o *readOptions) run(c *cmdutil.Call) error {
	if err := absolute(c.Args[0]); err != nil {
		return err
	}

	raw := c.RawOutput()

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	if raw {
		if len(targets.Nodes) > 1 {
			return errs.Usagef("the bytes of %d nodes would run into each other", len(targets.Nodes)).
				WithHint("%s", c.Again("-o", "json"))
		}

		return o.stream(c, targets.Nodes[0])
	}

	limit := o.max
	if limit == 0 {
		limit = documentLimit
	}

	rows, err := cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]Content, error) {
		var body []byte

		truncated, err := read(ctx, n, c.Args[0], limit, func(chunk []byte) error {
			body = append(body, chunk...)

			return nil
		})

		return []Content{content(c.Args[0], body, truncated)}, err
	})

	return cmdutil.PrintList(c, rows, err, []output.Column[Content]{}, func(r Content) string { return r.Path })
}

func (o *readOptions) stream(c *cmdutil.Call, t talos.Target) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	truncated, err := read(c.Context(), cluster.Node(t), c.Args[0], o.max, func(chunk []byte) error {
		_, err := c.IO.Out.Write(chunk)

		return err
	})
	if truncated {
		c.Warn("%s holds more than %d bytes", c.Args[0], o.max)
	}

	return err
}

// read passes on at most limit bytes, 0 for all, and reports whether there were more.
func read(ctx context.Context, n *talos.Node, path string, limit int64, fn func([]byte) error) (truncated bool, err error) {
	left := limit

	err = n.StreamFile(ctx, path, func(chunk []byte) error {
		if limit > 0 && int64(len(chunk)) > left {
			chunk, truncated = chunk[:left], true
		}

		left -= int64(len(chunk))

		if err := fn(chunk); err != nil {
			return err
		}

		if truncated {
			return conn.ErrStop
		}

		return nil
	})

	return truncated, err
}

func content(path string, body []byte, truncated bool) Content {
	out := Content{Path: path, SizeBytes: int64(len(body)), Truncated: truncated, Encoding: "utf-8", Content: string(body)}
	if !utf8.Valid(body) {
		out.Encoding, out.Content = "base64", base64.StdEncoding.EncodeToString(body)
	}

	return out
}
