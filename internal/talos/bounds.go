package talos

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/talosmate/talosmate/internal/errs"
)

// What a node may send in answer to one request. A single message is bounded by gRPC (GRPCMaxMessageSize, 32 MiB),
// and a stream by the time in which no data comes (--timeout). docs/scripts.md says the same.
const (
	MaxRows  = 500_000          // The rows of a list, and of a stream that is collected into a document.
	MaxBytes = 256 << 20        // The bytes of these rows.
	MaxTime  = 10 * time.Minute // How long a stream may take that is collected into a document.

	maxSnapshot = 64 << 30      // The bytes of an etcd snapshot; etcd advises against more than 8 GiB.
	maxLine     = 64 << 10      // The bytes of a line that an installer prints.
	maxWork     = 6 * time.Hour // How long a node may work on an install or a pull.
)

// errCut marks the error of a list whose beginning arrived.
var errCut = errors.New("the rest was cut off")

// IsCut reports whether an error is of a list whose beginning arrived: what there is of it is worth showing.
func IsCut(err error) bool { return errors.Is(err, errCut) }

// Meter counts what a list takes and refuses what is beyond the bounds.
type Meter struct {
	Rows  int   // The bound; MaxRows when 0.
	Bytes int64 // The bound; MaxBytes when 0.

	rows  int
	bytes int64
}

// Take counts a row.
func (m *Meter) Take(size int) error {
	rows, bytes := m.Rows, m.Bytes
	if rows == 0 {
		rows = MaxRows
	}

	if bytes == 0 {
		bytes = MaxBytes
	}

	if m.rows++; m.rows > rows {
		return fmt.Errorf("the node sent more than %d rows: %w", rows, errCut)
	}

	if m.bytes += int64(size); m.bytes > bytes {
		return fmt.Errorf("the node sent more than %d MiB: %w", bytes>>20, errCut)
	}

	return nil
}

// tooMuch makes the error of a node that sent more than it may.
func (n *Node) tooMuch(op string, err error) error {
	out := n.fail(op, err)

	var typed *errs.Error
	if errors.As(out, &typed) {
		typed.Kind = errs.KindTooMuch
	}

	return out
}

// TooMuch makes a node's error of one of Meter's.
func (n *Node) TooMuch(op string, err error) error {
	if !IsCut(err) {
		return err
	}

	return n.tooMuch(op, err)
}

// sizeOf is what a message takes on the wire.
func sizeOf(msg any) int {
	if m, ok := msg.(proto.Message); ok {
		return proto.Size(m)
	}

	return 0
}

// progresses reports whether a message is one that keeps a stream alive: one that should hold bytes must have some.
func progresses(msg any) bool {
	chunk, ok := msg.(interface{ GetBytes() []byte })

	return !ok || len(chunk.GetBytes()) > 0
}
