package conn

import (
	"context"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	silentAfter = 8 * time.Second // A node that sent nothing for this long is known to be silent; sooner with a short read timeout.
	silentLimit = 3 * time.Second // How long such a node may take for a small answer, before more is asked of it.
)

// hush is what is known of a silent node.
type hush struct {
	turn chan struct{} // Has a place for the one that asks.
	last time.Time     // When it last gave no small answer.
}

// askFirst fails if the node is known to be silent, and still is: a command that asks a node one question after the other
// waits for it once. Whether a node is silent, or takes long for what it was asked, shows in a small answer.
func (c *Conn) askFirst(ctx context.Context, method string, request any) error {
	found, known := c.Pool.silent.Load(c.Address)
	if !known || len(c.AnyOf) > 0 || isChange(method, request) {
		return nil
	}

	began := time.Now()

	h := found.(*hush) //nolint:errcheck,forcetypeassert // nothing else is stored

	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}

	if h.last.After(began) {
		return errNoAnswer
	}

	asking, cancel := context.WithTimeout(ctx, silentLimit)
	defer cancel()

	_, err := machine.NewMachineServiceClient(c.Pool.choose(asking, c.ways).cc).Version(c.outgoing(asking), &emptypb.Empty{})

	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case err == nil:
		c.Pool.silent.Delete(c.Address)
	case asking.Err() != nil:
		h.last = time.Now()

		return errNoAnswer
	}

	return nil
}

// errNoAnswer is the end of a read that was not sent, since the node is silent.
var errNoAnswer = status.Error(codes.DeadlineExceeded, "the node is silent")

// note remembers a node that was silent for the time of a read, and forgets one that answered.
func (c *Conn) note(err error, start time.Time) {
	if err == nil {
		c.Pool.silent.Delete(c.Address)

		return
	}

	least := silentAfter
	if t := c.Pool.Options.Timeout; t > 0 {
		least = min(least, t*9/10)
	}

	if status.Code(err) == codes.DeadlineExceeded && !c.answered.Load() && time.Since(start) >= least {
		c.Pool.silent.LoadOrStore(c.Address, &hush{turn: make(chan struct{}, 1)})
	}
}
