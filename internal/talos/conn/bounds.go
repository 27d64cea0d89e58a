package conn

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/talosmate/talosmate/internal/errs"
)

// Bounds for the answer of a node to one request. In addition, gRPC bounds a single message (GRPCMaxMessageSize, 32
// MiB), and --timeout the time in which a stream brings no data. docs/scripts.md lists them.
const (
	MaxRows  = 500_000          // Rows of a list, or of a stream that is collected into a document.
	MaxBytes = 256 << 20        // Bytes of these rows.
	MaxTime  = 10 * time.Minute // Duration of a stream that is collected into a document.

	maxWork = 6 * time.Hour // Time that a node may work on an install or a pull.
)

// errCut marks the error of an incomplete list.
var errCut = errors.New("the rest was cut off")

// IsCut reports whether an error belongs to an incomplete list, whose rows so far are worth showing.
func IsCut(err error) bool { return errors.Is(err, errCut) }

// Meter counts the rows and bytes of a list and refuses what exceeds the bounds.
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

// Exceeds makes the error of a node that sent more than allowed.
func (c *Conn) Exceeds(op string, err error) error {
	out := c.Fail(op, err)

	var typed *errs.Error
	if errors.As(out, &typed) {
		typed.Kind = errs.KindTooMuch
	}

	return out
}

// TooMuch turns an error of a Meter into the node's error; others are returned unchanged.
func (c *Conn) TooMuch(op string, err error) error {
	if !IsCut(err) {
		return err
	}

	return c.Exceeds(op, err)
}

// SizeOf is the encoded size of a message.
func SizeOf(msg any) int {
	if m, ok := msg.(proto.Message); ok {
		return proto.Size(m)
	}

	return 0
}

// progresses reports whether a message keeps a stream alive: a message with a bytes field must have some bytes in it.
func progresses(msg any) bool {
	chunk, ok := msg.(interface{ GetBytes() []byte })

	return !ok || len(chunk.GetBytes()) > 0
}
