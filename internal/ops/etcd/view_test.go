package etcd_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// node is a scripted control plane node.
type node struct {
	status  talos.EtcdStatus
	members []talos.EtcdMember
	alarms  []talos.EtcdAlarm
	err     error
	listErr error
	hang    bool
}

func (n *node) wait(ctx context.Context) error {
	if n.hang {
		<-ctx.Done()

		return ctx.Err()
	}

	return n.err
}

func (n *node) EtcdStatus(ctx context.Context) (talos.EtcdStatus, error) {
	return n.status, n.wait(ctx)
}

func (n *node) EtcdMembers(ctx context.Context, local bool) ([]talos.EtcdMember, error) {
	if !local {
		return nil, errors.New("the view must ask each node's own member")
	}

	if err := errors.Join(n.wait(ctx), n.listErr); err != nil {
		return nil, err
	}

	return n.members, nil
}

func (n *node) EtcdAlarms(ctx context.Context) ([]talos.EtcdAlarm, error) {
	return n.alarms, n.wait(ctx)
}

func id(n uint64) string { return talos.EtcdID(n).Hex() }

// three makes a healthy cluster of three that node 1 leads.
func three() ([]etcd.Source, []*node) {
	names := []string{"cp-1", "cp-2", "cp-3"}
	list := make([]talos.EtcdMember, 3)
	nodes := make([]*node, 3)
	sources := make([]etcd.Source, 3)

	for i, name := range names {
		address := "10.0.0." + string(rune('1'+i))
		list[i] = talos.EtcdMember{ID: id(uint64(i + 1)), MemberName: name, PeerURLs: []string{"https://" + address + ":2380"}}
		nodes[i] = &node{status: talos.EtcdStatus{ID: id(uint64(i + 1)), LeaderID: id(1), RaftTerm: 2, RaftIndex: 100, RaftAppliedIndex: 100}}
		sources[i] = etcd.Source{Target: talos.Target{Address: address, Hostname: name}, Reader: nodes[i]}
	}

	for _, n := range nodes {
		n.members = slices.Clone(list)
	}

	return sources, nodes
}

func TestGather(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	nodes[1].status.RaftAppliedIndex = 60
	nodes[2].alarms = []talos.EtcdAlarm{{ID: id(2), Alarm: "nospace"}}

	v := etcd.Gather(t.Context(), sources, time.Second)

	if v.Leader != id(1) || !v.Known || len(v.Members) != 3 || len(v.Differences) != 0 || v.Err(true) != nil {
		t.Fatalf("view %+v", v)
	}

	if m, ok := v.MemberOn(sources[1].Target); !ok || !m.Healthy || !slices.Equal(m.Alarms, []string{"nospace"}) {
		t.Errorf("member on cp-2 = %+v, %v", m, ok)
	}

	if lag := v.Lag(*v.Status(id(2))); lag != 40 {
		t.Errorf("lag %d", lag)
	}

	if len(v.Alarms()) != 1 {
		t.Errorf("alarms %v", v.Alarms())
	}
}

// busyNode commits entries between any two questions, as a busy cluster does.
type busyNode struct {
	*node

	index *atomic.Uint64
}

func (n busyNode) EtcdStatus(context.Context) (talos.EtcdStatus, error) {
	s := n.status
	s.RaftIndex = n.index.Add(10)
	s.RaftAppliedIndex = s.RaftIndex

	return s, nil
}

func TestLagOfABusyCluster(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	index := new(atomic.Uint64)

	for i := range sources {
		sources[i].Reader = busyNode{nodes[i], index}
	}

	v := etcd.Gather(t.Context(), sources, time.Second)
	v.CatchUp(t.Context(), func(asked talos.Target) etcd.Reader {
		return sources[slices.IndexFunc(sources, func(s etcd.Source) bool { return s.Target.Is(asked) })].Reader
	}, time.Second)

	for _, row := range v.StatusRows() {
		if row.RaftLag != 0 {
			t.Errorf("%s: lag %d", row.Hostname, row.RaftLag)
		}
	}
}

func TestStatusRowsOfADeadNode(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	nodes[2].hang = true

	rows := etcd.Gather(t.Context(), sources, 10*time.Millisecond).StatusRows()
	if len(rows) != 3 || rows[2].Hostname != "cp-3" || rows[2].Error == "" || rows[2].ID != id(3) || rows[2].RaftLag != 0 {
		t.Errorf("%+v", rows)
	}
}

func TestGatherDeadNode(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		sources, nodes := three()
		nodes[2].hang = true

		started := time.Now()
		v := etcd.Gather(t.Context(), sources, 3*time.Second)

		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("took %s, want the timeout of one node", took)
		}

		m, ok := v.MemberOn(sources[2].Target)
		if !ok || m.Healthy || m.ID != id(3) {
			t.Errorf("the dead node's member = %+v, %v", m, ok)
		}

		if !slices.Equal(v.Unreachable, []string{"cp-3"}) {
			t.Errorf("unreachable %v", v.Unreachable)
		}

		if code := errs.ExitCode(v.Err(true)); code != errs.Negative {
			t.Errorf("a question with a missing node gives %d", code)
		}

		if got := refused(v.Check(etcd.Restart, sources[0].Target)); !slices.Contains(got, gate.EtcdQuorum) {
			t.Errorf("restart refused by %v", got)
		}

		if got := refused(v.Check(etcd.Remove, sources[2].Target)); got != nil {
			t.Errorf("removal of the dead member refused by %v", got)
		}
	})
}

func TestGatherDifference(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		change  func([]*node)
		members int
		differs []string
	}{
		{"a follower", func(n []*node) { n[1].members = n[1].members[:2] }, 3, []string{"cp-2 does not list " + id(3)}},
		{"the leader", func(n []*node) { n[0].members = n[0].members[:2] }, 3, []string{"cp-1 does not list " + id(3)}},
		{"other facts", func(n []*node) { n[2].members[0].Learner = true }, 3, []string{"cp-3 lists " + id(1) + " with different values"}},
		{
			"one against one", func(n []*node) { n[1].members, n[2].err = n[1].members[:2], errors.New("gone") }, 3,
			[]string{"cp-2 does not list " + id(3)},
		},
		{
			"too many", func(n []*node) { n[1].members = append(n[1].members, talos.EtcdMember{ID: id(9)}) }, 3,
			[]string{"cp-2 also lists " + id(9)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			sources, nodes := three()
			c.change(nodes)

			v := etcd.Gather(t.Context(), sources, time.Second)

			got := []string{}
			for _, d := range v.Differences {
				got = append(got, strings.TrimPrefix(d.Error(), "the etcd member list differs between nodes: "))
			}

			if !slices.Equal(got, c.differs) || len(v.Members) != c.members {
				t.Errorf("differences %q, %d members", got, len(v.Members))
			}

			if errs.ExitCode(v.Consistent()) != errs.Negative {
				t.Errorf("consistent: %v", v.Consistent())
			}
		})
	}
}

// TestGatherLearner covers a member that joins: it answers for itself, and refuses to list members and alarms.
func TestGatherLearner(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	nodes[2].status.Learner, nodes[2].listErr = true, errors.New("etcdserver: rpc not supported for learner")

	for _, n := range nodes[:2] {
		n.members[2].Learner = true
	}

	v := etcd.Gather(t.Context(), sources, time.Second)
	if v.Err(true) != nil || v.Consistent() != nil {
		t.Errorf("errors %v, %v", v.Err(true), v.Consistent())
	}

	if err := v.Healthy(true); errs.ExitCode(err) != errs.Negative || err.Error() != "the etcd member cp-3 is a learner and does not vote yet" {
		t.Errorf("healthy: %v", err)
	}

	rows, verdicts, err := v.PlanDefrag([]talos.Target{sources[2].Target}, 0)
	if err != nil || len(verdicts) != 0 || rows[0].Status != runbook.Skipped {
		t.Errorf("defragmentation: %+v, %v, %v", rows, verdicts, err)
	}

	// Where nobody else lists, the refusal is the answer.
	alone := etcd.Gather(t.Context(), sources[2:], time.Second)
	if alone.Err(false, etcd.PartMembers) == nil {
		t.Error("a learner alone lists no members, and that is no error")
	}
}

func TestGatherMajorityWithoutLeaderNode(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	nodes[0].err = errors.New("gone")
	nodes[1].members = nodes[1].members[:1]

	five := append(slices.Clone(sources), sources[2])
	v := etcd.Gather(t.Context(), five, time.Second)

	if len(v.Members) != 3 || len(v.Differences) != 1 || v.Differences[0].Target.Hostname != "cp-2" {
		t.Errorf("members %+v, differences %+v", v.Members, v.Differences)
	}
}

func TestGatherWithoutQuorum(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	nodes[1].err, nodes[2].err = errors.New("gone"), errors.New("gone")
	nodes[0].status.LeaderID, nodes[0].listErr = id(0), errors.New("etcdserver: no leader")

	v := etcd.Gather(t.Context(), sources, time.Second)

	if v.Known || v.Leader != "" || len(v.Members) != 1 || v.Members[0].Healthy {
		t.Errorf("view %+v", v)
	}

	for _, act := range []etcd.Act{etcd.Restart, etcd.Leave, etcd.Remove} {
		if got := refused(v.Check(act, sources[0].Target)); !slices.Equal(got, []gate.Code{gate.EtcdQuorum}) {
			t.Errorf("%s refused by %v", act, got)
		}
	}
}

// A node that was replaced keeps its address; the old member must not borrow the new one's health.
func TestGatherReplacedNode(t *testing.T) {
	t.Parallel()

	sources, nodes := three()

	for _, n := range nodes {
		n.members = append([]talos.EtcdMember{{ID: id(0xa), PeerURLs: []string{"https://10.0.0.3:2380"}}}, n.members...)
	}

	v := etcd.Gather(t.Context(), sources, time.Second)

	for _, m := range v.Members {
		if m.ID == id(0xa) && m.Healthy {
			t.Error("the stale member is shown healthy")
		}
	}

	if m, _ := v.MemberOn(sources[2].Target); m.ID != id(3) {
		t.Errorf("member on cp-3 = %s", m.ID)
	}
}
