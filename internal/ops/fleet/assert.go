package fleet

import (
	"strings"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// Assertion is the result of one expression.
type Assertion struct {
	Expression string          `json:"expression"` // The expression as given.
	Holds      bool            `json:"holds"`      // Whether it is true.
	BrokenBy   []talos.NodeRef `json:"broken_by"`  // The nodes for which it is false, if it is about all nodes; never null.
	Error      string          `json:"error"`      // Why it could not be evaluated; then it does not hold.
}

// Expression is a compiled assertion.
type Expression struct {
	text string
	cond *condition.Condition
}

// Compile checks assertions before any request. A field that a fleet does not have is a usage error too.
func Compile(texts []string) ([]Expression, error) {
	out := make([]Expression, len(texts))

	for i, text := range texts {
		cond, err := condition.Compile(text, Variables()...)
		if err != nil {
			return nil, err
		}

		if _, err = cond.Holds(Sample()); err != nil && strings.Contains(err.Error(), "no such key") {
			return nil, errs.Usagef("%w", err).WithHint("talosmate schema Fleet")
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

// brokenBy finds the nodes that break an expression: if it is false for some nodes alone and true for the others, it is
// about every node. An expression about a number of nodes has no single culprit.
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
