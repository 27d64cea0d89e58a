package mcp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/progress"
)

// queued is how many notifications wait for a client that reads slowly; further ones are dropped.
const queued = 64

// maxWarnings is how many warnings a result has.
const maxWarnings = 20

// notifier sends progress to the client, if it asked for it, and keeps the warnings for the result. A client that does
// not read never holds up an operation.
type notifier struct {
	token any

	mu     sync.Mutex
	queue  chan *sdk.ProgressNotificationParams // nil when nobody asked, or when the call is over.
	sent   float64
	last   map[string]string
	warned []string

	ctx  context.Context //nolint:containedctx // the call's: a client that reads nothing holds up no interruption
	done chan struct{}   // Closed when what was queued is sent.
}

func newNotifier(ctx context.Context, r *sdk.CallToolRequest) *notifier {
	n := &notifier{token: r.Params.GetProgressToken(), last: map[string]string{}, ctx: ctx, done: make(chan struct{})}
	if n.token == nil {
		return n
	}

	queue := make(chan *sdk.ProgressNotificationParams, queued)
	n.queue = queue

	go func() {
		defer close(n.done)

		_ = errs.Safely(func() error { // progress is best effort
			for p := range queue {
				if err := r.Session.NotifyProgress(ctx, p); err != nil {
					return err
				}
			}

			return nil
		})
	}()

	return n
}

// Emit implements progress.Sink.
func (n *notifier) Emit(e progress.Event) {
	parts := slices.DeleteFunc([]string{e.Node, e.Stage, e.Message}, func(p string) bool { return p == "" })
	text := strings.Join(parts, ": ")

	if e.Total > 0 {
		text += fmt.Sprintf(" (%d%%)", 100*min(e.Current, e.Total)/e.Total)
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	if n.queue == nil || n.last[e.Node] == text {
		return
	}

	n.last[e.Node] = text
	n.sent++

	select {
	case n.queue <- &sdk.ProgressNotificationParams{ProgressToken: n.token, Progress: n.sent, Message: iostreams.Line(text)}:
	default:
	}
}

// Close implements progress.Sink: a command may warn after it closed its display.
func (n *notifier) Close() {}

// Warn implements progress.Warner.
func (n *notifier) Warn(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if len(n.warned) < maxWarnings {
		n.warned = append(n.warned, text)
	}
}

func (n *notifier) warnings() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.warned
}

// finish waits until what is queued is sent: nothing may follow the result.
func (n *notifier) finish() {
	n.mu.Lock()
	queue := n.queue
	n.queue = nil
	n.mu.Unlock()

	if queue == nil {
		return
	}

	close(queue)

	select {
	case <-n.done:
	case <-n.ctx.Done():
	}
}
