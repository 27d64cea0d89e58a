package talos

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Event is one machine event.
type Event struct {
	NodeRef

	ID      string         `json:"id"`                 // The event's ID; IDs of one node sort by time, across reboots too.
	Time    *time.Time     `json:"time,omitempty"`     // When it happened, to the second, from its ID.
	Event   string         `json:"event"`              // The event's type as Talos names it: SequenceEvent, PhaseEvent, TaskEvent, ServiceStateEvent, MachineStatusEvent, …
	ActorID string         `json:"actor_id,omitempty"` // Who caused it: the same for all events of one request.
	Payload map[string]any `json:"payload"`            // The event's own fields; empty for types that this program does not know.
}

// EventsRequest selects events.
type EventsRequest struct {
	Tail    int           // How many past events, negative for all that the node has.
	Since   time.Duration // Past events not older than this; wins over Tail.
	AfterID string        // Events after this ID; wins over both.
	ActorID string        // Only this actor's.
	Follow  bool          // Continue with new events.

	Opened func(id string) // Receives the position at which the stream was opened; may be nil.
}

// quiet is how long a node may be silent before its past events count as complete: the protocol has no mark between
// past and new events.
const quiet = 500 * time.Millisecond

var errQuiet = errors.New("no more past events")

// Events calls fn for every event. Without Follow it ends after the past ones. Roles: reader, operator, admin.
func (n *Node) Events(ctx context.Context, r EventsRequest, fn func(Event) error) error {
	req := &machine.EventsRequest{WithActorId: r.ActorID}

	switch {
	case r.AfterID != "":
		req.TailId = r.AfterID
	case r.Since > 0:
		req.TailSeconds = int32(min(r.Since.Seconds(), 1<<30))
	default:
		req.TailEvents = int32(max(min(r.Tail, 1<<30), -1))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	idle := n.Pool.Idle()
	if r.Follow {
		idle = 0
	}

	meter := &conn.Meter{Rows: n.Pool.Options.MaxRows, Bytes: n.Pool.Options.MaxBytes}
	hello := "" // The ID of the first message: events up to it are past events.

	enough := time.AfterFunc(time.Hour, func() { cancel(errQuiet) })
	defer enough.Stop()

	enough.Stop()

	err := conn.Pull(ctx, n.Conn, "read the events", idle, func(ctx context.Context) (grpc.ServerStreamingClient[machine.Event], error) {
		return n.machine().Events(ctx, req)
	}, func(e *machine.Event) error {
		enough.Stop()

		if !r.Follow {
			if err := meter.Take(conn.SizeOf(e)); err != nil {
				return n.Exceeds("read the events", err)
			}
		}

		switch {
		case hello == "":
			hello = e.GetId() // it only marks that the stream is open

			if r.Opened != nil {
				r.Opened(hello)
			}
		case !r.Follow && e.GetId() > hello:
			return conn.ErrStop
		default:
			if err := fn(n.event(e)); err != nil {
				return err
			}
		}

		if !r.Follow {
			enough.Reset(quiet)
		}

		return nil
	})

	if errors.Is(err, errQuiet) {
		return nil
	}

	return err
}

// SequenceErrors follows the node's events until the connection ends, and calls fn with the text of each sequence that
// fails. Talos reverts the boot loader then and reboots the node, or powers it off where it was to shut down (Talos,
// internal/app/machined/main.go). opened is called once the stream is open. Roles: reader, operator, admin.
func (n *Node) SequenceErrors(ctx context.Context, opened func(), fn func(text string)) error {
	return n.Events(ctx, EventsRequest{Follow: true, Opened: func(string) { opened() }}, func(e Event) error {
		failure, _ := e.Payload["error"].(map[string]any)
		if text, _ := failure["message"].(string); e.Event == "SequenceEvent" && text != "" {
			fn(text)
		}

		return nil
	})
}

func (n *Node) event(e *machine.Event) Event {
	out := Event{ID: e.GetId(), ActorID: e.GetActorId(), Payload: map[string]any{}}
	out.SetNode(n.Target)

	if at := eventTime(e.GetId()); !at.IsZero() {
		out.Time = &at
	}

	name := protoreflect.FullName(strings.TrimPrefix(e.GetData().GetTypeUrl(), "talos/runtime/"))
	out.Event = string(name.Name())

	kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return out
	}

	payload := kind.New().Interface()
	if err = proto.Unmarshal(e.GetData().GetValue(), payload); err == nil {
		out.Payload, _ = redact.Plain(plainMessage(payload.ProtoReflect())).(map[string]any)
	}

	return out
}

// eventTime reads the time in an event's ID, an xid: 12 bytes in lower-case base32, the first four of which
// are the Unix time.
func eventTime(id string) time.Time {
	raw, err := base32.HexEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(id))
	if err != nil || len(raw) != 12 {
		return time.Time{}
	}

	return time.Unix(int64(binary.BigEndian.Uint32(raw)), 0).UTC()
}

// plainMessage turns a message into plain values under our rules: protocol field names, all fields present, enums as
// lower-case words, times as RFC 3339.
func plainMessage(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	fields := m.Descriptor().Fields()

	for i := range fields.Len() {
		f := fields.Get(i)
		if f.HasPresence() && !m.Has(f) {
			continue
		}

		name := string(f.Name())

		if !f.IsList() {
			out[name] = plainField(f, m.Get(f))

			continue
		}

		list := m.Get(f).List()
		all := make([]any, list.Len())

		for j := range all {
			all[j] = plainField(f, list.Get(j))
		}

		out[name] = all
	}

	return out
}

func plainField(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() { //nolint:exhaustive // the other kinds are plain already
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return strings.ToLower(string(e.Name()))
		}

		return int(v.Enum())
	case protoreflect.MessageKind:
		if ts, ok := v.Message().Interface().(*timestamppb.Timestamp); ok {
			return ts.AsTime()
		}

		return plainMessage(v.Message())
	default:
		return v.Interface()
	}
}
