// Package logs holds `talosmate logs`.
package logs

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Line is one line of a log.
type Line struct {
	talos.NodeRef

	Log     string     `json:"log"`                 // The service or container.
	Time    *time.Time `json:"time,omitempty"`      // The time stamp in the line, where one parses.
	Message string     `json:"message"`             // The line as the node sent it, without its line end.
	Cut     int        `json:"cut_bytes,omitempty"` // How many bytes of the line's end --max-line-bytes left out.

	unended bool // No line end followed.
}

// shown is the line as a person reads it.
func (l Line) shown() string {
	if l.Cut == 0 {
		return l.Message
	}

	return fmt.Sprintf("%s… (%d bytes more)", l.Message, l.Cut)
}

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &options{now: f.Now}

	return cmdutil.NewNodeStream(f, cmdutil.Command{
		Use: "logs SERVICE", Aliases: []string{"log"}, Short: "Show the log of a service or container",
		Long: "Show the log of a Talos service or, with --kubernetes, of a container of a pod. One node's bytes go to\n" +
			"stdout as they are; several nodes' lines are interleaved with the node before each. With --follow a node\n" +
			"that reboots is waited for. Filters see whole lines, and --tail counts the lines that passed them. On a\n" +
			"terminal a line is cut after 4096 bytes; --max-line-bytes 0 shows all of it.",
		Example: "  talosmate logs etcd -n cp-1 --since 10m --filter \"slow fdatasync\"\n" +
			"  talosmate logs kubelet -A --follow -o ndjson\n" +
			"  talosmate logs --kubernetes kube-system/coredns-5d78c --container coredns",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: o.flags, Check: o.validate,
		Complete: cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
			if !o.kubernetes {
				return n.LogIDs(ctx)
			}

			return containerIDs(ctx, n)
		}),
	}, "LogLineList", cmdutil.NodeStream[Line]{
		Following: func() bool { return o.follow },
		Columns: []output.Column[Line]{
			{Header: "TIME", Value: func(l Line) string { return since(l.Time) }},
			{Header: "MESSAGE", Value: Line.shown},
		},
		Name: func(l Line) string { return l.Message },
		Text: func(w io.Writer, l Line, several bool) error {
			return cmdutil.StreamLine(w, l.NodeRef, l.shown(), !l.unended, several)
		},
		Finish: o.finish,
	}, o.run)
}

func (o *options) flags(flags *cmdutil.Flags) {
	flags.IntVar(&o.tail, "tail", 100, "how many of the last matching lines to show, -1 for all")
	flags.IntVar(&o.maxLine, "max-line-bytes", 0, "cut lines after this many bytes, 0 for never (default on a terminal: 4096)")
	flags.BoolVarP(&o.follow, "follow", "f", false, "continue as the log grows, across reboots")
	flags.StringVar(&o.since, "since", "", "only lines not older than this: a duration (10m) or an RFC 3339 time")
	flags.StringVar(&o.text, "filter", "", "only lines that hold this text")
	flags.StringVar(&o.regex, "filter-regex", "", "only lines that match this regular `expression`")
	flags.Kubernetes(&o.kubernetes, "SERVICE is a pod, NAMESPACE/POD, or a container as `container list` names it")
	flags.StringVarP(&o.container, "container", "c", "", "the pod's container, where it has several (implies --kubernetes)")
}

func since(t *time.Time) string {
	if t == nil {
		return ""
	}

	return output.Time(*t)
}
