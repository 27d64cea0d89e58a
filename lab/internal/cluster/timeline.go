package cluster

import (
	"sync"
	"time"
)

// Note is one event.
type Note struct {
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	Event  string    `json:"event"`
	Detail string    `json:"detail,omitempty"`
}

// Timeline records events with their time.
type Timeline struct {
	mu    sync.Mutex
	notes []Note
	sink  func(Note)
}

func (t *Timeline) add(n Note) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.notes = append(t.notes, n)

	// one after another, so that lines do not mix
	if t.sink != nil {
		t.sink(n)
	}
}

// Of returns the notes about a node, or all for an empty name.
func (t *Timeline) Of(node string) []Note {
	t.mu.Lock()
	defer t.mu.Unlock()

	out := []Note{}

	for _, n := range t.notes {
		if node == "" || n.Node == node {
			out = append(out, n)
		}
	}

	return out
}

// Counts is how often each method was requested from one node.
type Counts struct {
	// Executed counts at the node that executes the request.
	Executed map[string]int `json:"executed"`
	// Received counts at the node that received the request from the client.
	Received map[string]int `json:"received"`
	// Mutations is how many of the executed requests change state.
	Mutations int `json:"mutations"`
	// MutationsReceived is the same for received requests.
	MutationsReceived int `json:"mutations_received"`
}

// Requests counts requests per node and method.
type Requests struct {
	mu     sync.Mutex
	byNode map[string]*Counts
}

func (r *Requests) add(node, method string, executed, mutates bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.byNode == nil {
		r.byNode = map[string]*Counts{}
	}

	c := r.byNode[node]
	if c == nil {
		c = &Counts{Executed: map[string]int{}, Received: map[string]int{}}
		r.byNode[node] = c
	}

	change := 0
	if mutates {
		change = 1
	}

	if executed {
		c.Executed[method]++
		c.Mutations += change
	} else {
		c.Received[method]++
		c.MutationsReceived += change
	}
}

// Reset clears the counters.
func (r *Requests) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.byNode = nil
}

// Snapshot returns copies, of one node or of all, for one method or all.
func (r *Requests) Snapshot(node string, match func(method string) bool) map[string]Counts {
	r.mu.Lock()
	defer r.mu.Unlock()

	out := map[string]Counts{}

	for name, c := range r.byNode {
		if node != "" && name != node {
			continue
		}

		copied := Counts{Executed: map[string]int{}, Received: map[string]int{}, Mutations: c.Mutations, MutationsReceived: c.MutationsReceived}

		for m, n := range c.Executed {
			if match(m) {
				copied.Executed[m] = n
			}
		}

		for m, n := range c.Received {
			if match(m) {
				copied.Received[m] = n
			}
		}

		out[name] = copied
	}

	return out
}
