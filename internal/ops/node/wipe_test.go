package node_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/node"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
)

// TestWipes resets a single control plane whose partitions are not always the two of old: the loss of the last member is
// refused exactly when its data would be wiped.
func TestWipes(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		separate []string
		labels   []string
		all      bool
		refused  bool
		wipes    string
		says     string
	}{
		{name: "one partition for everything", labels: []string{"EPHEMERAL"}, refused: true, wipes: "EPHEMERAL"},
		{name: "etcd has its own", separate: []string{"ETCD"}, labels: []string{"EPHEMERAL"}, wipes: "EPHEMERAL", says: "partitions ETCD keep their data"},
		{name: "which is named", separate: []string{"ETCD"}, labels: []string{"ETCD"}, refused: true, wipes: "ETCD"},
		{name: "all data", separate: []string{"CRI", "ETCD"}, labels: []string{"STATE", "EPHEMERAL"}, all: true, refused: true, wipes: "STATE EPHEMERAL CRI ETCD"},
		{name: "all data, without etcd's", separate: []string{"LOG"}, labels: []string{"STATE"}, all: true, wipes: "STATE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, m, _ := newWorld("n1")
				m.Separated = c.separate
				n.ControlPlane = true
				n.Etcd = func(context.Context) (etcd.View, error) {
					return etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Node: "n1", Healthy: true}}}, nil
				}

				o := options(node.Reset)
				o.Drain, o.AllData = false, c.all
				o.Reset.Graceful, o.Reset.SystemLabels = false, c.labels

				res, err := node.Run(t.Context(), n, o, progress.Discard{})

				refused := slices.ContainsFunc(res.Gates, func(v gate.Verdict) bool { return v.Gate == gate.LastVoter && v.Verdict == gate.Refuse })
				if refused != c.refused || (res.Status == runbook.Refused) != c.refused || strings.Join(res.Wipes, " ") != c.wipes {
					t.Errorf("status %s, refused %t, wipes %v: %v", res.Status, refused, res.Wipes, err)
				}

				if !c.refused && !slices.Equal(m.Wiped, strings.Fields(c.wipes)) {
					t.Errorf("sent %v", m.Wiped)
				}

				if said := lists.Join(res.Stages, "\n", func(s runbook.Stage) string { return s.Message }); !strings.Contains(said, c.says) {
					t.Error(said)
				}
			})
		})
	}
}

// TestResetWarnsOfAPlatform resets a node that would be configured again.
func TestResetWarnsOfAPlatform(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name, argument, want string
		labels               []string
	}{
		{name: "by a kernel argument", argument: "talos.config=https://x", labels: []string{"STATE"}, want: "may get a configuration again and rejoin"},
		{name: "it keeps its configuration", argument: "talos.config=https://x", labels: []string{"EPHEMERAL"}},
		{name: "nothing gives one", argument: "console=tty0", labels: []string{"STATE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, m, _ := newWorld("n1")
				m.Arguments = []string{"talos.platform=metal", c.argument}

				o := options(node.Reset)
				o.DryRun, o.Reset.SystemLabels = true, c.labels

				res, err := node.Run(t.Context(), n, o, progress.Discard{})
				if err != nil || len(m.Calls) > 0 || len(res.Plan) == 0 {
					t.Fatalf("sent %v, plan %v: %v", m.Calls, res.Plan, err)
				}

				said := lists.Join(res.Stages, "\n", func(s runbook.Stage) string { return s.Message })
				if warned := strings.Contains(said, "rejoin"); warned != (c.want != "") || !strings.Contains(said, c.want) {
					t.Error(said)
				}
			})
		})
	}
}
