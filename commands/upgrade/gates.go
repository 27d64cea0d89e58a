package upgrade

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/rollout"
)

// celGate is a CEL condition over what a gate sees, and over objects of Kubernetes. An expression that cannot be evaluated
// ends the run: it would not hold later either. An API server that does not answer is asked again.
func celGate(text string, objects condition.Objects) (rollout.UserGate, error) {
	c, err := condition.CompileWithObjects(text, objects, "nodes", "healthy", "problems", "upgraded", "remaining", "failed", "next", "to", "elapsed")
	if err != nil {
		return rollout.UserGate{}, err
	}

	return rollout.UserGate{Kind: "cel", Text: text, Check: func(ctx context.Context, in rollout.GateInput) (bool, string, error) {
		held, err := c.HoldsNow(ctx, in)

		var unread *condition.ObjectError
		if errors.As(err, &unread) && !kube.Definite(err) {
			return false, unread.Error(), nil
		}

		return held, fmt.Sprintf("it is false with %d problems, %d upgraded, %d failed", len(in.Problems), in.Upgraded, in.Failed), err
	}}, nil
}

// objectsOf reads objects of Kubernetes. It connects when the first one is read.
func objectsOf(c *cmdutil.Call) condition.Objects {
	return func(ctx context.Context, apiVersion, kind, namespace, name string) (map[string]any, error) {
		k, err := c.Kubernetes(ctx)
		if err != nil {
			return nil, err
		}

		return k.Object(ctx, apiVersion, kind, namespace, name)
	}
}
