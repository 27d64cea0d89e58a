package rollout

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/impact"
	"github.com/talosmate/talosmate/internal/talos"
)

// TestPlanImpact: blocking facts refuse the plan, of the node or the cluster, and no fact changes its hash.
func TestPlanImpact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := planFleet(t)
		request := Request{To: "v1.13.9", AllNodes: true}

		plain, err := f.plan(request)
		if err != nil || len(plain.Impact) > 0 {
			t.Fatalf("%d facts: %v", len(plain.Impact), err)
		}

		var asked []talos.Target

		res := impact.Result{Releases: []string{"v1.13"}, Facts: []impact.Finding{
			{ID: "on-a-node", Release: "v1.13", Blocking: true, Verdict: impact.Applies, Evidence: []impact.Evidence{{NodeRef: plain.Nodes[0].NodeRef, Fields: []string{"x"}, Count: 1}}},
			{ID: "not-known", Release: "v1.13", Blocking: true, Verdict: impact.Unknown, Unknown: []impact.Unasked{{Code: errs.KindUnreachable, Reason: "down"}}},
			{ID: "harmless", Release: "v1.13", Verdict: impact.Applies, Evidence: []impact.Evidence{{NodeRef: plain.Nodes[1].NodeRef}}},
			{ID: "absent", Release: "v1.13", Blocking: true, Verdict: impact.DoesNotApply},
		}}
		f.Impact = func(_ context.Context, nodes []talos.Target, _ string) (impact.Result, error) {
			asked = nodes

			return res, nil
		}

		f.nodes["worker-2"].Running.Tag = "v1.13.9"

		p, err := f.plan(request)
		if errs.ExitCode(err) != errs.Refused || !p.Refused || len(p.Impact) != 3 || len(asked) != 4 {
			t.Fatalf("%d facts, %d nodes asked: %v", len(p.Impact), len(asked), err)
		}

		count := func(verdicts []gate.Verdict) (n int) {
			for _, v := range verdicts {
				if v.Gate == gate.ReleaseChanges && v.Verdict == gate.Refuse {
					n++
				}
			}

			return n
		}

		if count(p.Gates) != 1 || count(p.Nodes[0].Gates) != 1 || count(p.Nodes[1].Gates) != 0 {
			t.Errorf("%+v\n%+v", p.Gates, p.Nodes[0].Gates)
		}

		f.nodes["worker-2"].Running.Tag = "v1.13.8"

		passed, err := f.plan(request, "TM155")
		if err != nil || passed.Refused || passed.Hash != plain.Hash {
			t.Errorf("overridden: refused %t, the same hash %t: %v", passed.Refused, passed.Hash == plain.Hash, err)
		}

		f.Impact = func(context.Context, []talos.Target, string) (impact.Result, error) {
			return impact.Result{}, errors.New("no node answers")
		}

		if p, err = f.plan(request); errs.ExitCode(err) != errs.Refused || count(p.Gates) != 1 {
			t.Errorf("%+v: %v", p.Gates, err)
		}
	})
}
