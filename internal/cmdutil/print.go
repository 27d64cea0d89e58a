package cmdutil

import (
	"context"
	"errors"
	"io"

	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// PrintList writes rows and returns err joined with what went wrong in writing, so that the exit code is the
// same in every format.
func PrintList[T any](c *Call, rows []T, err error, cols []output.Column[T], name func(T) string) error {
	c.endProgress()

	err = c.settle(err)

	if len(rows) == 0 && err != nil && !c.Printer.Structured() {
		return err
	}

	c.printed = true

	return errors.Join(err, output.PrintList(c.Printer, rows, err, cols, name))
}

// PrintResult writes one result and returns err joined with what went wrong in writing.
func PrintResult[T any](c *Call, result T, err error, name string, human func(io.Writer, T) error) error {
	c.printed = true
	c.endProgress()

	err = c.settle(err)

	return errors.Join(err, output.PrintResult(c.Printer, result, err, human, name))
}

// PrintFailure writes the document of a command that failed without a result.
func (c *Call) PrintFailure(err error) error {
	c.endProgress()

	return c.Printer.PrintFailure(err)
}

// endProgress draws progress for the last time: what comes on the terminal after it must not be drawn over.
func (c *Call) endProgress() {
	if c.sink != nil {
		c.sink.Close()
	}
}

// Row is what the rows of a per-node list have in common.
type Row[T any] interface {
	*T
	SetNode(talos.Target)
}

// NodeList is the shape of a list command over one call per node: it differs from its siblings in the
// request, the row and the columns.
type NodeList[T any] struct {
	Columns []output.Column[T]
	Name    func(T) string // For -o name.
	// PerNode says that every node has one row: a table shows one that failed as a row with its error.
	PerNode bool
	// Finish receives all rows together: what one node cannot know, such as the lag behind others.
	Finish func([]T) ([]T, error)
	// Human writes the rows for people where a table does not say it best.
	Human func(w io.Writer, rows []T) error
	// Watched puts --watch on the command. Volatile are the columns that change all the time, as in ListReading.
	Watched  bool
	Volatile []string
}

// NewNodeList makes a command that asks every node with fetch and lists the rows.
func NewNodeList[T any, P Row[T]](f *Factory, d Command, schema string, l NodeList[T], fetch func(context.Context, *Call, *talos.Node) ([]T, error)) *Cmd {
	l.Columns = columns[T, P](l.Columns)

	var w Watch

	if own := d.Flags; l.Watched {
		d.Flags = func(fs *Flags) {
			if own != nil {
				own(fs)
			}

			w.Add(fs)
		}
	}

	return New(f, d, ListOf[T](schema), func(c *Call) error {
		return w.Run(c, func() (Reading, error) {
			early := l.Reading
			if l.Finish != nil {
				early = nil
			}

			rows, err := FetchRowsAs[T, P](c, func(ctx context.Context, n *talos.Node) ([]T, error) { return fetch(ctx, c, n) }, early)

			if l.Finish != nil {
				var finishErr error

				rows, finishErr = l.Finish(rows)
				err = errors.Join(err, finishErr)
			}

			return l.Reading(rows, err), nil
		})
	})
}

// Reading is the list's reading of some rows.
func (l NodeList[T]) Reading(rows []T, err error) Reading {
	return ListReading[T]{
		Rows: rows, Err: err, Columns: l.Columns, Name: l.Name, PerNode: l.PerNode, Human: l.Human, Volatile: l.Volatile,
	}
}

// FetchRows asks every target and marks each row with its node. The error holds the nodes that failed.
func FetchRows[T any, P Row[T]](c *Call, fetch func(context.Context, *talos.Node) ([]T, error)) ([]T, error) {
	return FetchRowsAs[T, P](c, fetch, nil)
}

// FetchRowsAs is FetchRows for rows of which a terminal shows those that have come while others have not, as the reading
// that they make.
func FetchRowsAs[T any, P Row[T]](c *Call, fetch func(context.Context, *talos.Node) ([]T, error), early func([]T, error) Reading) ([]T, error) {
	nodes, begun, err := c.askable()
	if err != nil {
		return nil, err
	}

	outcomes := eachEarly[T, P](c, nodes, fetch, early)

	if begun != nil {
		targets, err := c.resolved(begun.Wait())
		if err != nil {
			return nil, err
		}

		outcomes = talos.Join(c.ctx, c.cluster, targets.Nodes, outcomes, fetch)
	}

	return rowsOf[T, P](c, outcomes)
}

// rowsOf marks each row with its node. The error holds the nodes that failed; of a list that was cut off the
// beginning is kept.
func rowsOf[T any, P Row[T]](c *Call, outcomes []talos.Outcome[[]T]) ([]T, error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}

	_, err := talos.Collect(outcomes, c.Spec.Question)
	rows := []T{}

	for _, o := range outcomes {
		if o.Err != nil && !conn.IsCut(o.Err) {
			continue
		}

		for _, row := range o.Value {
			P(&row).SetNode(o.Target)
			rows = append(rows, row)
		}
	}

	return rows, err
}

// refOf is the node of a row.
func refOf(row any) talos.NodeRef {
	if r, ok := row.(interface{ Ref() talos.NodeRef }); ok {
		return r.Ref()
	}

	return talos.NodeRef{}
}

// columns puts the node in front of a list's own columns.
func columns[T any, P Row[T]](own []output.Column[T]) []output.Column[T] {
	return append(NodeColumns[T](), own...)
}

// NodeColumns are the columns of a row's node: its name and, in the wide table, its address.
func NodeColumns[T any]() []output.Column[T] {
	return []output.Column[T]{
		{Header: "NODE", Value: func(row T) string { return refOf(row).NodeName() }},
		{Header: "ADDRESS", Wide: true, Value: func(row T) string { return refOf(row).Node }},
	}
}

// Bytes gives stdout to a command whose result is bytes: no document is written there afterwards, not even
// that of a failure.
func (c *Call) Bytes() io.Writer {
	c.printed = true

	return c.IO.Out
}
