package fleet

import (
	"strings"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// Assertion is what became of one expression.
type Assertion struct {
	Expression string          `json:"expression"` // As it was given.
	Holds      bool            `json:"holds"`      // Whether it is true.
	BrokenBy   []talos.NodeRef `json:"broken_by"`  // The nodes that make it false, where it speaks of all nodes; never null.
	Error      string          `json:"error"`      // Why it could not be evaluated; then it does not hold.
}

// Expression is a compiled assertion.
type Expression struct {
	text string
	cond *condition.Condition
}

// Compile checks assertions before anything is asked. A field that no fleet has is a usage error too.
func Compile(texts []string) ([]Expression, error) {
	out := make([]Expression, len(texts))

	for i, text := range texts {
		cond, err := condition.Compile(text, Variables()...)
		if err != nil {
			return nil, err
		}

		if _, err = cond.Holds(Sample()); err != nil && strings.Contains(err.Error(), "no such key") {
			return nil, errs.Usagef("%w", err).WithHint("`talosmate schema Fleet` lists the fields of a fleet")
		}

		out[i] = Expression{text: text, cond: cond}
	}

	return out, nil
}

// Assert evaluates one expression.
func (e Expression) Assert(f Fleet) Assertion {
	out := Assertion{Expression: e.text, BrokenBy: []talos.NodeRef{}}

	held, err := e.cond.Holds(f)
	if err != nil {
		out.Error = err.Error()
	}

	if out.Holds = held && err == nil; !out.Holds {
		out.BrokenBy = e.brokenBy(f)
	}

	return out
}

// brokenBy finds who is to blame: an expression that is true of no node and false of one speaks of every
// node, and that node breaks it. One about how many or about some has nobody to blame.
func (e Expression) brokenBy(f Fleet) []talos.NodeRef {
	out := []talos.NodeRef{}
	alone := f
	alone.Nodes = []Node{}

	if held, err := e.cond.Holds(alone); err != nil || !held {
		return out
	}

	for _, n := range f.Nodes {
		alone.Nodes = []Node{n}

		if held, err := e.cond.Holds(alone); err != nil || !held {
			out = append(out, n.NodeRef)
		}
	}

	return out
}
