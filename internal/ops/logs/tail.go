package logs

// Tail keeps the last lines of a log. It counts what passed the filters: a node counts before them.
type Tail[T any] struct {
	Size int // How many; negative keeps all.

	lines []T
	next  int
}

// Add takes a line.
func (r *Tail[T]) Add(line T) error {
	switch {
	case r.Size < 0 || len(r.lines) < r.Size:
		r.lines = append(r.lines, line)
	case r.Size > 0:
		r.lines[r.next] = line
		r.next = (r.next + 1) % r.Size
	}

	return nil
}

// Drain passes the lines on, oldest first.
func (r *Tail[T]) Drain(emit func(T) error) error {
	for i := range r.lines {
		if err := emit(r.lines[(r.next+i)%len(r.lines)]); err != nil {
			return err
		}
	}

	return nil
}
