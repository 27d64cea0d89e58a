package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// planFleet is a fleet whose images have digests.
func planFleet(t *testing.T) *fakeFleet {
	t.Helper()

	f := newFleetOf(t, "v1.13.8", 2)
	f.Image = func(context.Context, string) (string, error) { return "sha256:" + fake.Schematic, nil }

	return f
}

// planFile is the document of a plan, as `upgrade plan -o json` prints it.
func planFile(t *testing.T, p Plan) []byte {
	t.Helper()

	raw, err := json.Marshal(map[string]any{
		"schema": PlanSchema, "context": p.Cluster, "generated_at": "2026-11-22T18:00:00Z", "result": p, "errors": []any{},
		"selection": map[string]any{"source": "members", "nodes": p.Request.Nodes},
	})
	if err != nil {
		t.Fatal(err)
	}

	return raw
}

// applyFile applies a plan file as the command does, and gives what was sent.
func (f *fakeFleet) applyFile(raw []byte) (sent []string, err error) {
	p, err := ReadPlan(raw)
	if err != nil {
		return nil, err
	}

	o := ApplyOptions{Node: options(), GateTimeout: time.Minute}
	o.Node.Reason = upgrade.Purpose() + " by test"

	now, err := Replan(f.t.Context(), f.Cluster, p, nil)
	if err == nil || now.Refused {
		_, err = Apply(f.t.Context(), f.Cluster, now, o, progress.Discard{})
	}

	for _, name := range slices.Sorted(maps.Keys(f.nodes)) {
		for _, call := range f.nodes[name].Calls {
			sent = append(sent, name+" "+call)
		}
	}

	return sent, err
}

// mutations gives a changed copy of a document for each of its leaves and lists, by path.
func mutations(t *testing.T, raw []byte) map[string][]byte {
	t.Helper()

	out := map[string][]byte{}

	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}

	var walk func(path string, v any, set func(any))

	try := func(path string, old, changed any, set func(any)) {
		set(changed)

		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}

		out[path] = text

		set(old)
	}

	walk = func(path string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				walk(strings.TrimPrefix(path+"."+key, "."), v[key], func(changed any) { v[key] = changed })
			}
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s.%d", path, i), v[i], func(changed any) { v[i] = changed })
			}

			if len(v) > 0 {
				try(path+"-", v, v[:len(v)-1], set)
				try(path+"+", v, append(slices.Clone(v), v[0]), set)
			} else {
				try(path+"+", v, []any{"x"}, set)
			}
		case string:
			try(path, v, v+"x", set)
		case bool:
			try(path, v, !v, set)
		case float64:
			try(path, v, v+1, set)
		default:
			try(path, v, "x", set)
		}
	}

	walk("", doc, nil)

	return out
}

// informing are the parts of a plan file that decide nothing.
var informing = map[string]*regexp.Regexp{ //nolint:gochecknoglobals // a constant
	"the gates are asked again":                      regexp.MustCompile(`^result(\.nodes\.\d+)?\.gates\b`),
	"the budgets are looked at again":                regexp.MustCompile(`^result\.nodes\.\d+\.disruption_blockers\b`),
	"it follows from the gates":                      regexp.MustCompile(`^result\.refused$`),
	"when it was made":                               regexp.MustCompile(`^generated_at$`),
	"the nodes are in the result":                    regexp.MustCompile(`^selection\b`),
	"what the gates said, in the envelope once more": regexp.MustCompile(`^errors\b`),
}

func isInforming(path string) bool {
	for _, r := range informing {
		if r.MatchString(path) {
			return true
		}
	}

	return false
}

func TestPlanFileWhole(t *testing.T) {
	t.Parallel()

	run := func(t *testing.T, raw []byte) (sent []string, err error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { sent, err = planFleet(t).applyFile(raw) })

		return sent, err
	}

	var raw []byte

	synctest.Test(t, func(t *testing.T) {
		p, err := planFleet(t).plan(Request{To: "v1.13.9", MaxParallel: "2", Canary: "worker-1", AllNodes: true})
		if err != nil {
			t.Fatal(err)
		}

		raw = planFile(t, p)
	})

	all, err := run(t, raw)
	if err != nil || len(all) == 0 {
		t.Fatalf("the plan as it is: %v", err)
	}

	for path, changed := range mutations(t, raw) {
		sent, err := run(t, changed)

		switch {
		case isInforming(path) && (err == nil && !slices.Equal(sent, all) || err != nil && len(sent) > 0):
			t.Errorf("%s only informs, and changes what is done: %v, %v", path, sent, err)
		case !isInforming(path) && (errs.ExitCode(err) != errs.Usage || len(sent) > 0):
			t.Errorf("%s was changed: exit code %d, sent %v: %v", path, errs.ExitCode(err), sent, err)
		}
	}
}

// derived are the parts that a plan with a hash of its own may have otherwise: they are found again when it is applied.
var derived = map[string]*regexp.Regexp{ //nolint:gochecknoglobals // a constant
	"`upgrade plan` makes a plan for this request too":  regexp.MustCompile(`^result\.request\.(all_nodes|skip_drain|install_only|reboot_only)$`),
	"the order follows from who leads etcd at the time": regexp.MustCompile(`^result\.nodes\.\d+\.(order|etcd_leader)$|^result\.work$`),
	"a text for people": regexp.MustCompile(`^result\.nodes\.\d+\.reason$`),
	"the image decides, and TM133 looks at what is lost":     regexp.MustCompile(`^result\.nodes\.\d+\.extensions_`),
	"the image decides, and the schematic it has is TM133's": regexp.MustCompile(`^result\.nodes\.\d+\.schematic_to$`),
}

func TestPlanFileForged(t *testing.T) {
	t.Parallel()

	var raw []byte

	synctest.Test(t, func(t *testing.T) {
		p, err := planFleet(t).plan(Request{To: "v1.13.9", MaxParallel: "2", Canary: "worker-1", AllNodes: true})
		if err != nil {
			t.Fatal(err)
		}

		raw = planFile(t, p)
	})

	for path, changed := range mutations(t, raw) {
		if isInforming(path) {
			continue
		}

		p, err := decodePlan(changed)
		if err != nil {
			continue
		}

		p.Hash = p.hash()
		free := false

		for _, r := range derived {
			free = free || r.MatchString(path)
		}

		if path == "result.hash" || free {
			continue
		}

		var sent []string

		synctest.Test(t, func(t *testing.T) { sent, err = planFleet(t).applyFile(planFile(t, p)) })

		if err == nil || len(sent) > 0 {
			t.Errorf("%s was changed, and the hash with it: sent %v: %v", path, sent, err)
		}
	}
}

func TestReplan(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		arrange func(*fakeFleet)
		says    string
	}{
		"as planned":     {func(*fakeFleet) {}, ""},
		"on the way":     {func(f *fakeFleet) { f.nodes["cp-2"].Running.Tag = "v1.13.9" }, ""},
		"another leader": {func(f *fakeFleet) { f.leader = "cp-3" }, ""},
		"registry away": {func(f *fakeFleet) {
			f.Image = func(context.Context, string) (string, error) { return "", errors.New("away") }
		}, ""},
		"another digest": {func(f *fakeFleet) {
			f.Image = func(context.Context, string) (string, error) { return "sha256:other", nil }
		}, "@sha256:other"},
		"older":           {func(f *fakeFleet) { f.nodes["cp-2"].Running.Tag = "v1.13.7" }, "cp-2 runs v1.13.7"},
		"other schematic": {func(f *fakeFleet) { f.nodes["cp-3"].Sys.Schematic = "other" }, "cp-3 has the schematic"},
		"other registry":  {func(f *fakeFleet) { f.nodes["cp-3"].Config.InstallImage = "r.example.org/own/installer:v1" }, "cp-3 gets the image r.example.org"},
		"secure boot":     {func(f *fakeFleet) { f.nodes["cp-3"].Sys.SecureBoot = true }, "cp-3 has secure boot true"},
		"a node is gone": {func(f *fakeFleet) {
			f.Members = f.Members[:4]
			delete(f.kube.Members, "worker-2")
		}, "worker-2 is not a member any more"},
		"a node has come":  {func(f *fakeFleet) { f.grow("worker-3") }, "worker-3 is not in the plan"},
		"another cluster":  {func(f *fakeFleet) { f.Name = "test" }, "this is test"},
		"another hostname": {func(f *fakeFleet) { f.Members[4].Hostname = "worker-3"; f.nodes["worker-3"] = f.nodes["worker-2"] }, `is "worker-3" now`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := planFleet(t)

				p, err := f.plan(Request{To: "v1.13.9", AllNodes: true})
				if err != nil {
					t.Fatal(err)
				}

				tt.arrange(f)

				now, err := Replan(t.Context(), f.Cluster, p, nil)

				switch {
				case tt.says == "" && err != nil:
					t.Error(err)
				case tt.says != "" && (errs.ExitCode(err) != errs.Refused || !now.Refused || !strings.Contains(err.Error(), tt.says)):
					t.Errorf("exit code %d: %v", errs.ExitCode(err), err)
				}

				if _, err = Replan(t.Context(), f.Cluster, p, gate.Overrides{"TM147"}); err != nil {
					t.Errorf("overridden: %v", err)
				}
			})
		})
	}
}

// TestPlanUnreached: a plan is made for the nodes that answer, says so, and is applied to those only if it was reviewed.
func TestPlanUnreached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := planFleet(t)
		request := Request{To: "v1.13.9", AllNodes: true}

		whole, err := f.plan(request)
		if err != nil {
			t.Fatal(err)
		}

		f.nodes["worker-1"].DownUntil = time.Now().Add(24 * time.Hour)

		p, err := f.plan(request)
		if errs.ExitCode(err) != errs.Partial || len(errs.Entries(err)) != 1 || len(p.Nodes) != 5 || p.Work != 4 || p.Hash == whole.Hash {
			t.Fatalf("exit code %d, %d nodes, work %d: %v", errs.ExitCode(err), len(p.Nodes), p.Work, err)
		}

		if last := p.Nodes[4]; last.Hostname != "worker-1" || last.Action != ActUnknown || last.Error == "" || last.Order != 0 || last.Role != "worker" {
			t.Errorf("%+v", last)
		}

		if again, _ := f.plan(request); again.Hash != p.Hash {
			t.Error("the same cluster has another hash")
		}

		if now, err := MakeWholePlan(t.Context(), f.Cluster, request, nil); errs.ExitCode(err) != errs.Unreachable || len(now.Nodes) > 0 {
			t.Errorf("without a plan: exit code %d, %d nodes: %v", errs.ExitCode(err), len(now.Nodes), err)
		}

		if now, err := Replan(t.Context(), f.Cluster, whole, gate.Overrides{"TM147"}); errs.ExitCode(err) != errs.Unreachable || len(now.Nodes) > 0 {
			t.Errorf("a plan with work for it: exit code %d: %v", errs.ExitCode(err), err)
		}

		sent, err := f.applyFile(planFile(t, p))
		if errs.ExitCode(err) != errs.Partial || f.nodes["worker-2"].Running.Tag != "v1.13.9" || f.nodes["worker-1"].Running.Tag != "v1.13.8" {
			t.Errorf("exit code %d, sent %v: %v", errs.ExitCode(err), sent, err)
		}

		f.nodes["worker-1"].DownUntil = time.Time{}

		if _, err = Replan(t.Context(), f.Cluster, p, nil); errs.ExitCode(err) != errs.Refused || !strings.Contains(err.Error(), "worker-1 answers now") {
			t.Errorf("it answers again: %v", err)
		}
	})
}

// TestPlanUnreadable: an image that cannot be known is not invented.
func TestPlanUnreadable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := planFleet(t)
		request := Request{To: "v1.13.9", AllNodes: true}

		whole, err := f.plan(request)
		if err != nil {
			t.Fatal(err)
		}

		denied := func() (Plan, error) {
			for _, m := range f.nodes {
				m.Fail["config"] = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindPermissionDenied, Err: errors.New("not authorized")}
			}

			return f.plan(request)
		}

		p, err := denied()
		if err != nil || p.Hash == whole.Hash || p.Work != 5 {
			t.Fatalf("work %d: %v", p.Work, err)
		}

		for _, n := range p.Nodes {
			if !n.ImageUnreadable || n.Image != "" || n.Hops[0].Image != "" || n.Hops[0].Digest != "" || n.SchematicTo != "" || n.Action != upgrade.ActUpgrade {
				t.Errorf("%+v", n)
			}

			for _, g := range n.Gates {
				if (g.Gate == gate.ExtensionsLost || g.Gate == gate.PlatformMismatch) && g.Verdict != gate.Skip {
					t.Errorf("%+v", g)
				}
			}
		}

		if _, err = Apply(t.Context(), f.Cluster, p, ApplyOptions{Node: options()}, progress.Discard{}); errs.ExitCode(err) != errs.Refused {
			t.Errorf("applied by the same certificate: %v", err)
		}

		_, err = Replan(t.Context(), f.Cluster, p, nil)
		if errs.ExitCode(err) != errs.Refused || strings.Count(err.Error(), "does not name the image of cp-1, cp-2, ") != 1 || strings.Contains(err.Error(), "planned is") {
			t.Errorf("applied by an admin: %v", err)
		}

		if sent, _ := f.applyFile(planFile(t, p)); len(sent) > 0 {
			t.Errorf("sent %v", sent)
		}

		// One whose configuration is not answered is not planned at all.
		f.nodes["cp-2"].Fail["config"] = fake.ErrDown

		if p, err = f.plan(request); errs.ExitCode(err) != errs.Partial || p.Work != 4 {
			t.Errorf("work %d: %v", p.Work, err)
		}
	})
}

func TestReadPlan(t *testing.T) {
	t.Parallel()

	for name, text := range map[string]string{
		"empty":            "",
		"no plan":          "{}",
		"a list":           "[]",
		"text":             "plan",
		"unknown key":      `{"schema": "talosmate/v1/UpgradePlan", "result": {"hash": "x", "nodez": []}}`,
		"key in capitals":  `{"schema": "talosmate/v1/UpgradePlan", "result": {"HASH": "x"}}`,
		"key twice":        `{"hash": "x", "hash": "y", "nodes": [{"node": "a"}]}`,
		"another schema":   `{"schema": "talosmate/v2/UpgradePlan", "result": {"hash": "x", "nodes": [{"node": "a"}]}}`,
		"text after it":    `{"hash": "x", "nodes": [{"node": "a"}]} {}`,
		"node twice":       `{"hash": "x", "nodes": [{"node": "a"}, {"node": "a"}]}`,
		"plan and result":  `{"result": {}, "hash": "x"}`,
		"alias":            "hash: &x x\ncluster: *x\n",
		"alias in itself":  "a: &x\n  b: *x\n",
		"aliases of 10^9":  "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n",
		"two documents":    "hash: x\n---\nhash: y\n",
		"deep":             strings.Repeat("[", 20000),
		"deep in a plan":   `{"hash": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		"number keys":      "1: x\n",
		"wrong type":       `{"hash": 1}`,
		"hash of nothing":  `{"hash": "x", "nodes": [{"node": "a"}]}`,
		"merge key":        "a: &x {hash: x}\n<<: *x\n",
		"hash is a plan's": `{"hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "nodes": [{"node": "a"}]}`,
	} {
		if _, err := ReadPlan([]byte(text)); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: exit code %d: %v", name, errs.ExitCode(err), err)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	p := Plan{Cluster: "prod", To: "v1.13.9", Nodes: []NodePlan{{Action: upgrade.ActSkip, Hops: []Hop{}}}}
	p.Nodes[0].Node, p.Hash = "10.0.0.1", p.hash()
	p.Hash = p.hash()

	raw, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}

	f.Add(raw)
	f.Add([]byte(`{"schema": "talosmate/v1/UpgradePlan", "context": "", "result": {"hash": "", "nodes": []}}`))
	f.Add([]byte("hash: &x x\nnodes: [*x]\n"))

	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ReadPlan(raw)
		if err != nil {
			if errs.ExitCode(err) != errs.Usage {
				t.Errorf("exit code %d: %v", errs.ExitCode(err), err)
			}

			return
		}

		if p.Hash != p.hash() || len(p.Nodes) == 0 {
			t.Errorf("it is no plan: %+v", p)
		}
	})
}
