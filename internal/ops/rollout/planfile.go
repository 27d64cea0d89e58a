package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	kjson "sigs.k8s.io/json"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/gate"
)

// PlanSchema is the format of a plan.
const PlanSchema = "talosmate/v1/UpgradePlan"

// planHint says how a plan file is made.
const planHint = "talosmate upgrade plan --to v1.14.1 -o json > plan.json"

// planDocument is a plan in the envelope of the command that made it.
type planDocument[T any] struct {
	Schema      string          `json:"schema"`
	Context     string          `json:"context"`
	GeneratedAt string          `json:"generated_at"`
	Selection   json.RawMessage `json:"selection"`
	Result      T               `json:"result"`
	Errors      json.RawMessage `json:"errors"`
}

// ReadPlan reads a plan file, JSON or YAML, with or without its envelope. A plan that was changed after it was made
// is an error.
func ReadPlan(raw []byte) (Plan, error) {
	p, err := decodePlan(raw)
	if err == nil {
		err = p.valid()
	}

	if err != nil {
		return Plan{}, errs.Usagef("cannot read the plan: %w", err).WithHint(planHint)
	}

	return p, nil
}

func decodePlan(raw []byte) (Plan, error) {
	p, name, err := DecodePlan[Plan](raw, PlanSchema)
	if err == nil && name != "" && name != p.Cluster {
		return Plan{}, fmt.Errorf("its context is %q, and its plan is for %q", name, p.Cluster)
	}

	return p, err
}

// DecodePlan decodes a plan, JSON or YAML, with or without the envelope of a schema. The context is that of the envelope,
// empty without one.
func DecodePlan[T any](raw []byte, schema string) (plan T, context string, err error) {
	if !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		if raw, err = yamlToJSON(raw); err != nil {
			return plan, "", err
		}
	}

	var has map[string]json.RawMessage
	if err = strictJSON(raw, &has); err != nil {
		return plan, "", err
	}

	if _, enveloped := has["result"]; !enveloped {
		return plan, "", strictJSON(raw, &plan)
	}

	var doc planDocument[T]
	if err = strictJSON(raw, &doc); err != nil {
		return plan, "", err
	}

	if doc.Schema != schema {
		return plan, "", fmt.Errorf("its schema is %q, want %s", doc.Schema, schema)
	}

	return doc.Result, doc.Context, nil
}

// strictJSON decodes one document. Unknown keys, keys that differ in case only and duplicate keys are errors.
func strictJSON(raw []byte, into any) error {
	if err := foreign.CheckJSON(raw); err != nil {
		return err
	}

	problems, err := kjson.UnmarshalStrict(raw, into)

	return errors.Join(err, errors.Join(problems...))
}

// yamlToJSON turns one YAML document into JSON. What we write has no aliases.
func yamlToJSON(raw []byte) ([]byte, error) {
	documents, err := foreign.Documents(raw)

	switch {
	case err != nil:
		return nil, err
	case len(documents) != 1:
		return nil, fmt.Errorf("it has %d documents", len(documents))
	case hasAlias(documents[0]):
		return nil, errors.New("it has aliases")
	}

	var value any
	if err := foreign.Decode(documents[0], &value); err != nil {
		return nil, err
	}

	return json.Marshal(value)
}

func hasAlias(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		return true
	}

	for _, child := range n.Content {
		if hasAlias(child) {
			return true
		}
	}

	return false
}

// valid reports what makes a file no plan, or not the plan that was made.
func (p *Plan) valid() error {
	if p.Hash == "" || len(p.Nodes) == 0 {
		return errors.New("it is not a plan")
	}

	seen := map[string]bool{}

	for _, n := range p.Nodes {
		for _, name := range []string{n.Node, n.Hostname} {
			if name != "" && seen[name] {
				return fmt.Errorf("the node %q is in it twice", name)
			}
		}

		seen[n.Node], seen[n.Hostname] = true, true
	}

	if now := p.hash(); now != p.Hash {
		return fmt.Errorf("it was changed after it was made, or another release made it: its hash is %.12s, its content has %.12s", p.Hash, now)
	}

	return nil
}

// Replan plans again what a plan file asks for, and refuses when that is not what the file says.
func Replan(ctx context.Context, c *Cluster, planned Plan, overrides gate.Overrides) (Plan, error) {
	if gone := planned.gone(c); len(gone) > 0 {
		now := Plan{Cluster: c.Name, Request: planned.Request, To: planned.To, Nodes: []NodePlan{}, Gates: []gate.Verdict{planned.differs(gone)}, Impact: []Impact{}}
		if err := now.settle(overrides); err != nil {
			return now, err
		}
	}

	r := planned.Request
	r.Nodes = nil

	if !r.AllNodes {
		for _, n := range planned.Request.Nodes {
			if _, err := c.member(n); err == nil {
				r.Nodes = append(r.Nodes, n)
			}
		}

		if len(r.Nodes) == 0 {
			return Plan{}, errs.Usagef("none of the plan's nodes is a member of this cluster").WithHint(planHint)
		}
	}

	now, err := MakePlan(ctx, c, r, overrides)

	// A node that the plan has work for must not be left out, whatever is overridden.
	now, err = now.whole(err, func(n NodePlan) bool {
		return slices.ContainsFunc(planned.Nodes, func(p NodePlan) bool { return p.Node == n.Node && p.Action == ActUnknown })
	})
	if len(now.Nodes) == 0 {
		return now, err
	}

	now.Gates = append(now.Gates, planned.differs(planned.Differences(now)))

	return now, now.settle(overrides)
}

// differs is the verdict on differences from the plan.
func (p *Plan) differs(different []string) gate.Verdict {
	remedy := "make a new plan"
	if len(p.unreadable()) > 0 {
		remedy = "make a new plan with a certificate of role os:admin"
	}

	if len(different) == 0 {
		return gate.New(gate.PlanDiffers, gate.Pass, "", "the cluster is as planned")
	}

	return gate.New(gate.PlanDiffers, gate.Refuse, "", "the cluster is not as planned: %s", strings.Join(different, "; ")).
		WithRemedy("%s", remedy)
}

// gone lists what makes it useless to plan again: another cluster, or nodes that are not members any more.
func (p *Plan) gone(c *Cluster) []string {
	if p.Cluster != c.Name {
		return []string{fmt.Sprintf("the plan is for the cluster %s, this is %s", p.Cluster, c.Name)}
	}

	var out []string

	for _, n := range p.Nodes {
		if _, err := c.member(n.Node); err != nil {
			out = append(out, n.NodeName()+" is not a member any more")
		}
	}

	return out
}
