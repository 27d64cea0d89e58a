package upgrade

import (
	"context"
	"fmt"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// celGate is a CEL condition over what a gate sees. An expression that cannot be evaluated ends the run: it
// would not hold later either.
func celGate(text string) (rollout.UserGate, error) {
	c, err := condition.Compile(text, "nodes", "healthy", "problems", "upgraded", "remaining", "failed", "next", "to", "elapsed")
	if err != nil {
		return rollout.UserGate{}, err
	}

	return rollout.UserGate{Kind: "cel", Text: text, Check: func(_ context.Context, in rollout.GateInput) (bool, string, error) {
		held, err := c.Holds(in)

		return held, fmt.Sprintf("it is false with %d problems, %d upgraded, %d failed", len(in.Problems), in.Upgraded, in.Failed), err
	}}, nil
}
