package rollout

import (
	"context"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/impact"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/talos"
)

// Impact is a fact of a release on the way, in short; `upgrade impact` has it in full.
type Impact struct {
	ID       string          `json:"id"`       // The fact.
	Release  string          `json:"release"`  // The release that changes it; any for a fact of each release.
	Title    string          `json:"title"`    // What changes.
	Verdict  impact.Verdict  `json:"verdict"`  // applies or unknown.
	Blocking bool            `json:"blocking"` // Whether it is gate TM155.
	Nodes    []talos.NodeRef `json:"nodes"`    // The nodes for which it applies or is unknown; empty for the cluster, never null.
}

// judgeImpact adds what the releases on the way change for the nodes that get another version, and gate TM155.
func (p *Plan) judgeImpact(ctx context.Context, c *Cluster) error {
	var nodes []talos.Target

	for _, n := range p.Nodes {
		if upgrade.Installs(n.Action) || n.Action == upgrade.ActReboot || n.Action == upgrade.ActSettle {
			if m, err := c.member(n.Node); err == nil {
				nodes = append(nodes, m.Target())
			}
		}
	}

	if c.Impact == nil || len(nodes) == 0 || impact.CheckVersion(p.To) != nil { // TM130 says that an image names no version
		return nil
	}

	// A node that stopped answering since it was planned is unknown in the result.
	res, err := c.Impact(ctx, nodes, p.To)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	if err != nil && len(res.Releases) == 0 {
		p.Gates = append(p.Gates, gate.New(gate.ReleaseChanges, gate.Refuse, "", "not known what the releases on the way change: %v", err))

		return nil
	}

	for _, v := range res.Gates() {
		p.addGate(v)
	}

	for _, f := range res.Facts {
		if f.Verdict == impact.DoesNotApply {
			continue
		}

		short := Impact{ID: f.ID, Release: f.Release, Title: f.Title, Verdict: f.Verdict, Blocking: f.Blocking, Nodes: []talos.NodeRef{}}
		refs := append(lists.Map(f.Evidence, func(e impact.Evidence) talos.NodeRef { return e.NodeRef }),
			lists.Map(f.Unknown, func(u impact.Unasked) talos.NodeRef { return u.NodeRef })...)
		short.Nodes = append(short.Nodes, lists.Filter(refs, func(r talos.NodeRef) bool { return r.Node != "" })...)
		p.Impact = append(p.Impact, short)
	}

	return nil
}

// addGate puts a verdict with its node, or with the cluster.
func (p *Plan) addGate(v gate.Verdict) {
	for i := range p.Nodes {
		if v.Node != "" && p.Nodes[i].Node == v.Node {
			p.Nodes[i].Gates = append(p.Nodes[i].Gates, v)

			return
		}
	}

	p.Gates = append(p.Gates, v)
}
