// Package events holds `talosmate events`.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/logs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type options struct {
	tail   int
	follow bool
	since  string
	filter string
	actor  string
	now    func() time.Time

	after time.Time
}

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &options{now: f.Now}

	return cmdutil.NewNodeStream(f, cmdutil.Command{
		Use: "events", Aliases: []string{"event"}, Short: "Show the machine events of each node",
		Long: "Show what happened on the nodes: sequences, phases and tasks of the machine, service states, stages,\n" +
			"addresses. One line an event, in columns: node, time, event, actor, message. With --follow a node that\n" +
			"reboots is waited for. Events are hints: a node that dies sends none, so wait for state with `talosmate wait`.",
		Example: "  talosmate events -n worker-1 --since 10m\n" +
			"  talosmate events -A --follow --filter MachineStatusEvent\n" +
			"  talosmate events -A --follow -o ndjson",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers}, Flags: o.flags, Check: o.validate,
	}, "EventList", cmdutil.NodeStream[talos.Event]{
		Events: true, Following: func() bool { return o.follow },
		Columns: []output.Column[talos.Event]{
			{Header: "TIME", Value: when},
			{Header: "EVENT", Value: func(e talos.Event) string { return e.Event }},
			{Header: "ACTOR", Value: func(e talos.Event) string { return e.ActorID }},
			{Header: "MESSAGE", Value: message},
			{Header: "ID", Wide: true, Value: func(e talos.Event) string { return e.ID }},
		},
		Name: func(e talos.Event) string { return e.ID },
		Less: func(a, b talos.Event) int { return strings.Compare(a.ID, b.ID) },
		Text: func(w io.Writer, e talos.Event, _ bool) error {
			_, err := fmt.Fprintf(w, "%-15s  %-20s  %-20s  %-36s  %s\n",
				output.Line(e.NodeName()), when(e), output.Line(e.Event), output.Cell(e.ActorID), output.Cell(message(e)))

			return err
		},
	}, o.run)
}

func (o *options) flags(flags *cmdutil.Flags) {
	flags.IntVar(&o.tail, "tail", 100, "how many of the last matching events to show, -1 for all (default with --since: all)")
	flags.StringVar(&o.since, "since", "", "past events not older than this: a duration (10m) or an RFC 3339 time")
	flags.BoolVarP(&o.follow, "follow", "f", false, "continue as events happen, across reboots")
	flags.StringVar(&o.filter, "filter", "", "only events whose type or payload holds this text")
	flags.StringVar(&o.actor, "actor-id", "", "only events that this actor caused")
}

func (o *options) validate(*cmdutil.Call) error {
	var err error
	o.after, err = cmdutil.ParseSince(o.since, o.now())

	return err
}

func (o *options) run(ctx context.Context, c *cmdutil.Call, n *talos.Node, add func(talos.Event) error, flush func() error) error {
	req := talos.EventsRequest{Tail: o.tail, ActorID: o.actor, Follow: o.follow}
	if !o.after.IsZero() {
		req.Since = o.now().Sub(o.after)
	}

	if !o.follow {
		return o.past(ctx, c, n, req, add)
	}

	again := logs.Default(func(err error) { c.Warn("%v; waiting for the node to come back", err) })

	// event IDs grow with time, so that a new boot's come after those of the old
	last := ""
	pass := o.filtered(add)

	return again.Follow(ctx, func(ctx context.Context, _ bool, alive func()) error {
		req.AfterID = last
		req.Opened = func(id string) {
			alive()

			if last == "" {
				last = id
			}
		}

		return n.Events(ctx, req, func(e talos.Event) error {
			last = e.ID

			if err := pass(e); err != nil {
				return err
			}

			return flush()
		})
	})
}

// past shows the last of the events that passed the filters. A node counts before them, and not at all from a time on.
func (o *options) past(ctx context.Context, c *cmdutil.Call, n *talos.Node, req talos.EventsRequest, add func(talos.Event) error) error {
	last := logs.Tail[talos.Event]{Size: o.tail}
	keep := last.Add

	if o.tail < 0 || req.Since > 0 && !c.Cmd.Flags().Changed("tail") {
		keep = add
	}

	if o.filter != "" || o.actor != "" {
		req.Tail = -1
	}

	return errors.Join(n.Events(ctx, req, o.filtered(keep)), last.Drain(add))
}

// filtered passes on the events that hold the text.
func (o *options) filtered(then func(talos.Event) error) func(talos.Event) error {
	return func(e talos.Event) error {
		if o.filter != "" && !strings.Contains(e.Event+" "+payload(e), o.filter) {
			return nil
		}

		return then(e)
	}
}

func when(e talos.Event) string {
	if e.Time == nil {
		return ""
	}

	return output.Time(*e.Time)
}

func payload(e talos.Event) string {
	raw, err := json.Marshal(e.Payload)
	if err != nil {
		return ""
	}

	return string(raw)
}

// message says in a line what the payload tells. That of a type which this program does not know is JSON.
func message(e talos.Event) string {
	var parts []string

	add := func(value any) {
		if text := strings.TrimSpace(fmt.Sprint(value)); value != nil && text != "" {
			parts = append(parts, text)
		}
	}

	for _, key := range []string{"service", "sequence", "phase", "task", "stage", "action", "cmd", "hostname"} {
		add(e.Payload[key])
	}

	head := strings.Join(parts, " ")
	parts = nil

	if status, ok := e.Payload["status"].(map[string]any); ok && status["ready"] != true {
		add("not ready")

		conditions, _ := status["unmet_conditions"].([]any) //nolint:errcheck // without conditions there is nothing to say
		for _, one := range conditions {
			if c, ok := one.(map[string]any); ok {
				add(c["reason"])
			}
		}
	}

	if addresses, ok := e.Payload["addresses"].([]any); ok {
		for _, one := range addresses {
			add(one)
		}
	}

	add(e.Payload["message"])

	if failure, ok := e.Payload["error"].(map[string]any); ok {
		add(failure["message"])
	} else {
		add(e.Payload["error"])
	}

	switch detail := strings.Join(parts, "; "); {
	case head == "" && detail == "":
		return payload(e)
	case head == "" || detail == "":
		return head + detail
	default:
		return head + ": " + detail
	}
}
