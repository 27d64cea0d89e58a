package machine

import (
	"encoding/base32"
	"encoding/binary"
	"sync"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// eventCapacity is how many events a node keeps, as Talos's ring buffer does.
const eventCapacity = 1000

// Event is one machine event.
type Event struct {
	ID      string
	ActorID string
	Time    time.Time
	Payload proto.Message
}

// Proto returns the event as the API sends it.
func (e Event) Proto() (*machineapi.Event, error) {
	data := &anypb.Any{}

	if e.Payload != nil {
		raw, err := proto.Marshal(e.Payload)
		if err != nil {
			return nil, err
		}

		data.TypeUrl = "talos/runtime/" + string(e.Payload.ProtoReflect().Descriptor().FullName())
		data.Value = raw
	}

	return &machineapi.Event{Data: data, Id: e.ID, ActorId: e.ActorID}, nil
}

// Events is the event stream of one boot of a node.
type Events struct {
	mu      sync.Mutex
	counter uint32
	ring    []Event
	added   chan struct{}
	// lastStatus is the last status event, so that repeats are omitted
	lastStatus string
	closed     bool
}

// NewEvents makes an empty stream.
func NewEvents() *Events { return &Events{added: make(chan struct{})} }

// NewID makes an event ID in the form of Talos's xid: time first, so that IDs sort by time.
func (e *Events) NewID(now time.Time) string {
	e.mu.Lock()
	defer e.mu.Unlock()

	return e.newID(now)
}

func (e *Events) newID(now time.Time) string {
	e.counter++

	raw := make([]byte, 12)
	binary.BigEndian.PutUint32(raw, uint32(now.Unix()))
	copy(raw[4:9], "lab01")
	raw[9], raw[10], raw[11] = byte(e.counter>>16), byte(e.counter>>8), byte(e.counter)

	return base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).EncodeToString(raw)
}

// Publish adds an event.
func (e *Events) Publish(actorID string, payload proto.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()

	now := time.Now()
	e.ring = append(e.ring, Event{ID: e.newID(now), ActorID: actorID, Time: now, Payload: payload})

	if len(e.ring) > eventCapacity {
		e.ring = append([]Event(nil), e.ring[len(e.ring)-eventCapacity:]...)
	}

	close(e.added)
	e.added = make(chan struct{})
}

// Close ends all watchers.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()

	if !e.closed {
		e.closed = true
		close(e.added)
		e.added = make(chan struct{})
	}
}

// Since returns the events after an ID (all for an empty one), a channel that is closed when there are more, and
// whether the stream has ended.
func (e *Events) Since(id string) (events []Event, more <-chan struct{}, ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()

	start := 0

	for i := len(e.ring) - 1; i >= 0; i-- {
		if e.ring[i].ID <= id {
			start = i + 1

			break
		}
	}

	return append([]Event(nil), e.ring[start:]...), e.added, e.closed
}
