package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// syntheticLine is the length of every generated log line, its newline included.
const syntheticLine = 128

// segment is a part of a log: given bytes, or lines that are generated when they are read.
type segment struct {
	data []byte
	size int64 // of generated lines; a multiple of syntheticLine
}

func (s segment) len() int64 {
	if s.data != nil {
		return int64(len(s.data))
	}

	return s.size
}

func (s segment) readAt(p []byte, off int64) int {
	if s.data != nil {
		return copy(p, s.data[off:])
	}

	n := 0

	for n < len(p) && off < s.size {
		line := syntheticText(off / syntheticLine)
		c := copy(p[n:], line[off%syntheticLine:])
		n += c
		off += int64(c)
	}

	return n
}

// syntheticText is the generated line of a number, the same for every reader.
func syntheticText(number int64) []byte {
	line := fmt.Appendf(make([]byte, 0, syntheticLine), `{"level":"info","n":%d,"msg":"generated line`, number)
	if number%1000 == 0 {
		line = append(line, " needle"...)
	}

	line = append(line, ` `...)
	for len(line) < syntheticLine-3 {
		line = append(line, 'x')
	}

	return append(line, '"', '}', '\n')
}

// Log is one service's log; it only grows.
type Log struct {
	mu       sync.Mutex
	segments []segment
	size     int64
	grown    chan struct{}
	closed   bool
}

// NewLog makes a log that starts with the given text.
func NewLog(initial []byte) *Log {
	l := &Log{grown: make(chan struct{})}
	if len(initial) > 0 {
		l.add(segment{data: initial})
	}

	return l
}

// Write appends text.
func (l *Log) Write(p []byte) (int, error) {
	l.add(segment{data: bytes.Clone(p)})

	return len(p), nil
}

// Generate appends lines that are generated when they are read, so that any number of them needs no memory.
func (l *Log) Generate(lines int64) { l.add(segment{size: lines * syntheticLine}) }

func (l *Log) add(s segment) {
	if s.len() == 0 {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	// small writes are joined, so that reading stays fast
	if last := len(l.segments) - 1; s.data != nil && last >= 0 && l.segments[last].data != nil && len(l.segments[last].data) < 64<<10 {
		l.segments[last].data = append(bytes.Clone(l.segments[last].data), s.data...)
	} else {
		l.segments = append(l.segments, s)
	}

	l.size += s.len()
	close(l.grown)
	l.grown = make(chan struct{})
}

// Close ends followers, as the death of the node does.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.closed {
		l.closed = true
		close(l.grown)
		l.grown = make(chan struct{})
	}
}

// Reopen lets followers wait again after a boot.
func (l *Log) Reopen() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.closed = false
}

// Size is the length in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.size
}

// ReadAt implements io.ReaderAt.
func (l *Log) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	n := 0

	for _, s := range l.segments {
		if off >= s.len() {
			off -= s.len()

			continue
		}

		c := s.readAt(p[n:], off)
		n += c

		if n == len(p) {
			return n, nil
		}

		off = 0
	}

	return n, io.EOF
}

// tailOffset finds where the last n lines start.
func (l *Log) tailOffset(lines int) int64 {
	if lines <= 0 {
		return l.Size()
	}

	const block = 32 << 10

	buf := make([]byte, block)
	end := l.Size()
	pos := end
	found := 0

	for pos > 0 {
		start := max(pos-block, 0)
		chunk := buf[:pos-start]
		_, _ = l.ReadAt(chunk, start) //nolint:errcheck // in memory

		for i := len(chunk) - 1; i >= 0; i-- {
			if chunk[i] != '\n' || start+int64(i) == end-1 {
				continue
			}

			if found++; found == lines {
				return start + int64(i) + 1
			}
		}

		pos = start
	}

	return 0
}

// Reader streams the log from the start or from its last lines (tail < 0 means from the start), and continues as it
// grows if follow is set.
func (l *Log) Reader(ctx context.Context, tail int, follow bool) io.Reader {
	r := &logReader{ctx: ctx, log: l, follow: follow}
	if tail >= 0 {
		r.off = l.tailOffset(tail)
	}

	return r
}

type logReader struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has no other place for it
	log    *Log
	off    int64
	follow bool
}

func (r *logReader) Read(p []byte) (int, error) {
	for {
		r.log.mu.Lock()
		grown, size, closed := r.log.grown, r.log.size, r.log.closed
		r.log.mu.Unlock()

		if r.off < size {
			n, _ := r.log.ReadAt(p, r.off) //nolint:errcheck // EOF only means that there was less
			r.off += int64(n)

			return n, nil
		}

		if !r.follow || closed {
			return 0, io.EOF
		}

		select {
		case <-grown:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}
