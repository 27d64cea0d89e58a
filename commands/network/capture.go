package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/capture"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Capture is a finished packet capture.
type Capture struct {
	talos.NodeRef

	Interface       string  `json:"interface"`        // The interface.
	File            string  `json:"file"`             // Where the packets are, "-" for stdout.
	Packets         int64   `json:"packets"`          // How many packets were captured.
	SizeBytes       int64   `json:"size_bytes"`       // The size of the capture.
	DurationSeconds float64 `json:"duration_seconds"` // How long it took.
	Ended           string  `json:"ended"`            // What ended it: duration, max_packets, interrupted, node or failed.
}

type captureOptions struct {
	file        string
	filter      string
	duration    time.Duration
	max         int64
	snap        uint32
	promiscuous bool
	now         func() time.Time
}

var errTimeUp = errors.New("the capture's time is up")

func newCmdCapture(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &captureOptions{now: f.Now}

	return cmdutil.New(f, cmdutil.Command{
		Use: "capture INTERFACE", Aliases: []string{"pcap"}, Short: "Capture packets of a node's interface",
		Long: "Capture packets of one node's interface into a pcap file, until --duration or --max-packets is reached, or\n" +
			"until it is interrupted, which keeps what was captured. -w - writes the capture to stdout.",
		Example: "  talosmate network capture eth0 -n cp-1 -w cp-1.pcap --duration 30s\n" +
			"  talosmate network capture eth0 -n cp-1 -w - --bpf-filter \"$(tcpdump -dd 'tcp port 6443')\" | tcpdump -r -",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Operators(), OneNode: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVarP(&o.file, "write", "w", "", "the pcap `file` to write, - for stdout (required)")
			fs.StringVar(&o.filter, "bpf-filter", "", "only packets that pass these BPF `instructions`, as `tcpdump -dd EXPRESSION` prints them")
			fs.DurationVar(&o.duration, "duration", 0, "stop after this time, 0 for never")
			fs.Int64Var(&o.max, "max-packets", 0, "stop after this number of packets, 0 for never")
			fs.Uint32Var(&o.snap, "snap-length", 0, "how many bytes of each packet to keep, 0 for the node's default")
			fs.BoolVar(&o.promiscuous, "promiscuous", false, "put the interface into promiscuous mode")
			fs.NotNegative("duration", "max-packets")
		},
		Complete: cmdutil.CompleteFrom(linkNames),
	}, cmdutil.ResultOf[Capture]("Capture"), o.run)
}

func linkNames(ctx context.Context, n *talos.Node) ([]string, error) {
	links, err := n.Resources(ctx, "network", "LinkStatuses.net.talos.dev")

	return lists.Map(links, func(l talos.Resource) string { return l.Metadata.ID }), err
}

func (o *captureOptions) run(c *cmdutil.Call) error {
	req := talos.CaptureRequest{Interface: c.Args[0], Promiscuous: o.promiscuous, SnapLength: o.snap}

	var err error

	switch req.Filter, err = capture.ParseFilter(o.filter); {
	case err != nil:
		return err
	case o.file == "":
		return errs.Usagef("no file for the packets").WithHint("%s", c.Again("-w", "FILE"))
	case o.file == "-" && c.IO.OutTTY:
		return errs.Usagef("a capture is nothing for a terminal").WithHint("pipe it into tcpdump -r -, or name a file")
	}

	if o.file == "-" {
		c.RawOutput()
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	if len(targets.Nodes) != 1 {
		return errs.Usagef("a capture is of one node").WithHint("%s", c.Again("-n", "NODE"))
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	node := cluster.Node(targets.Nodes[0])

	if o.file == "-" {
		_, err = o.capture(c.Context(), node, req, c.IO.Out)

		return err
	}

	var result Capture

	// what was captured is kept however the capture ended: every packet in it is whole
	writeErr := fsutil.WriteFile(o.file, 0o600, func(w io.Writer) error {
		if result, err = o.capture(c.Context(), node, req, w); result.SizeBytes == 0 {
			return err
		}

		return nil
	})
	if writeErr != nil {
		return writeErr
	}

	return cmdutil.PrintResult(c, result, err, o.file, func(w io.Writer, r Capture) error {
		_, err := fmt.Fprintf(w, "%d packets of %s on %s in %s (%s)\n", r.Packets, r.Interface, r.NodeName(), r.File, output.Bytes(r.SizeBytes))

		return err
	})
}

func (o *captureOptions) capture(ctx context.Context, n *talos.Node, req talos.CaptureRequest, out io.Writer) (Capture, error) {
	result := Capture{Interface: req.Interface, File: o.file, Ended: "node"}
	result.SetNode(n.Target)

	start := o.now()
	limited, cancel := context.WithCancelCause(ctx)

	defer cancel(nil)

	// A deadline would be sent to the node, which may end the stream before the own clock does.
	if o.duration > 0 {
		defer time.AfterFunc(o.duration, func() { cancel(errTimeUp) }).Stop()
	}

	w := &capture.Writer{Out: out, Max: o.max}
	err := n.Capture(limited, req, w.Write)

	result.Packets, result.SizeBytes, result.DurationSeconds = w.Packets, w.Bytes, o.now().Sub(start).Seconds()

	switch {
	case ctx.Err() != nil:
		result.Ended, err = string(runbook.Interrupted), context.Cause(ctx)
	case errors.Is(err, capture.ErrFull):
		result.Ended, err = "max_packets", nil
	case errors.Is(err, errTimeUp), err != nil && errors.Is(context.Cause(limited), errTimeUp):
		result.Ended, err = "duration", nil
	case err != nil:
		result.Ended, err = "failed", n.Blame("capture packets of "+req.Interface, err)
	}

	return result, err
}
