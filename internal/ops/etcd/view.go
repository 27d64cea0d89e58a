package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// View is the state of the whole cluster's etcd at one time.
type View struct {
	Members      []Member     // In the order of their IDs.
	Known        bool         // Whether a member list could be read. Otherwise Members are those that answered.
	Leader       string       // The leader's ID in hex, empty when none is known.
	Answers      []Answer     // In the order of the sources.
	Differences  []Difference // Nodes whose member list is not the cluster's.
	Unreachable  []string     // Members (labels) whose node gave no status.
	furthestRaft uint64
}

// Difference is a node whose own member list differs from the cluster's.
type Difference struct {
	Target  talos.Target
	Missing []string // Member IDs that it does not list.
	Extra   []string // Member IDs that it lists and the cluster does not.
	Changed []string // Member IDs that it lists with another name, URL or learner state.
}

// Error describes the difference.
func (d Difference) Error() string {
	var parts []string

	for _, p := range []struct {
		format string
		ids    []string
	}{{"does not list %s", d.Missing}, {"also lists %s", d.Extra}, {"lists %s with different values", d.Changed}} {
		if len(p.ids) > 0 {
			parts = append(parts, fmt.Sprintf(p.format, strings.Join(p.ids, ", ")))
		}
	}

	return "the etcd member list differs between nodes: " + d.Target.Name() + " " + strings.Join(parts, " and ")
}

func newView(answers []Answer) View {
	v := View{Answers: answers, Leader: leader(answers)}

	list := v.memberList()
	if v.Known = list != nil; v.Known {
		v.Members = lists.Map(list, v.member)
	} else {
		v.Members = v.answering()
	}

	for i, m := range v.Members {
		for _, a := range answers {
			for _, alarm := range a.Alarms {
				if alarm.ID == m.ID && !slices.Contains(v.Members[i].Alarms, alarm.Alarm) {
					v.Members[i].Alarms = append(v.Members[i].Alarms, alarm.Alarm)
				}
			}
		}

		if v.Status(m.ID) == nil {
			v.Unreachable = append(v.Unreachable, m.label())
		}
	}

	for _, a := range answers {
		if a.Status != nil {
			v.furthestRaft = max(v.furthestRaft, a.Status.RaftIndex)
		}

		if d, differs := difference(a, list); differs {
			v.Differences = append(v.Differences, d)
		}
	}

	return v
}

// leader is the leader of the members with the highest raft term.
func leader(answers []Answer) string {
	id, term := "", uint64(0)

	for _, a := range answers {
		if a.Status != nil && hasLeader(*a.Status) && (id == "" || a.Status.RaftTerm > term) {
			id, term = a.Status.LeaderID, a.Status.RaftTerm
		}
	}

	return id
}

func hasLeader(s talos.EtcdStatus) bool {
	return s.LeaderID != "" && s.LeaderID != talos.EtcdID(0).Hex()
}

// memberList picks the cluster's list: the one that most nodes have, and in case of a tie the leader's own.
func (v View) memberList() []talos.EtcdMember {
	votes := map[string]int{}

	var best []talos.EtcdMember

	for _, a := range v.Answers {
		if a.Members != nil {
			votes[fingerprint(a.Members)]++
		}
	}

	for _, a := range v.Answers {
		if a.Members == nil {
			continue
		}

		mine, most := votes[fingerprint(a.Members)], votes[fingerprint(best)]
		if best == nil || mine > most || (mine == most && a.Status != nil && a.Status.ID == v.Leader) {
			best = a.Members
		}
	}

	return best
}

func fingerprint(list []talos.EtcdMember) string {
	facts := slices.Sorted(maps.Values(factsOf(list)))

	return strings.Join(facts, "\n")
}

func factsOf(list []talos.EtcdMember) map[string]string {
	out := map[string]string{}
	for _, m := range list {
		out[m.ID] = fmt.Sprint(m.ID, m.MemberName, slices.Sorted(slices.Values(m.PeerURLs)), m.Learner)
	}

	return out
}

func difference(a Answer, list []talos.EtcdMember) (Difference, bool) {
	if a.Members == nil {
		return Difference{}, false
	}

	d := Difference{Target: a.Target}
	own, theirs := factsOf(a.Members), factsOf(list)

	for _, id := range slices.Sorted(maps.Keys(theirs)) {
		switch fact, listed := own[id]; {
		case !listed:
			d.Missing = append(d.Missing, id)
		case fact != theirs[id]:
			d.Changed = append(d.Changed, id)
		}
	}

	for _, id := range slices.Sorted(maps.Keys(own)) {
		if _, listed := theirs[id]; !listed {
			d.Extra = append(d.Extra, id)
		}
	}

	return d, len(d.Missing)+len(d.Extra)+len(d.Changed) > 0
}

func (v View) member(m talos.EtcdMember) Member {
	out := Member{ID: m.ID, Name: m.MemberName, Node: m.Address(), Learner: m.Learner}

	if a := v.answerOf(m); a != nil {
		out.Node = a.Target.Address

		if out.Name == "" {
			out.Name = a.Target.Hostname
		}
	}

	if s := v.Status(m.ID); s != nil {
		out.Healthy = hasLeader(*s)
	}

	return out
}

// answerOf finds the node of a member: by its status, else by its addresses, else by its hostname.
func (v View) answerOf(m talos.EtcdMember) *Answer {
	matches := []func(Answer) bool{
		func(a Answer) bool { return a.Status != nil && a.Status.ID == m.ID },
		func(a Answer) bool {
			return a.Target.Has(m.Address())
		},
		func(a Answer) bool { return m.MemberName != "" && a.Target.Hostname == m.MemberName },
	}

	for _, match := range matches {
		for i, a := range v.Answers {
			// A node that runs another member does not run this one, whatever its address.
			if match(a) && (a.Status == nil || a.Status.ID == m.ID) {
				return &v.Answers[i]
			}
		}
	}

	return nil
}

// answering replaces the member list when no node could read it: etcd returns lists only while it has a leader, the
// status always.
func (v View) answering() []Member {
	out := []Member{}

	for _, a := range v.Answers {
		if a.Status != nil {
			out = append(out, Member{
				ID: a.Status.ID, Name: a.Target.Hostname, Node: a.Target.Address, Learner: a.Status.Learner, Healthy: hasLeader(*a.Status),
			})
		}
	}

	lists.Sort(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })

	return out
}

// Status is the state of the member with this ID, nil when its node sent none.
func (v View) Status(id string) *talos.EtcdStatus {
	a, _ := lists.Find(v.Answers, func(a Answer) bool { return a.Status != nil && a.Status.ID == id })

	return a.Status
}

// Lag is how many raft entries the member is behind the most advanced commit of any member.
func (v View) Lag(s talos.EtcdStatus) uint64 {
	if s.RaftAppliedIndex >= v.furthestRaft {
		return 0
	}

	return v.furthestRaft - s.RaftAppliedIndex
}

// MemberOn finds the member that runs on a node, by the node's own report, else by the member's address.
func (v View) MemberOn(t talos.Target) (Member, bool) {
	running := ""

	for _, a := range v.Answers {
		if a.Target.Is(t) && a.Status != nil {
			running = a.Status.ID
		}
	}

	if running != "" {
		return v.MemberByID(running)
	}

	return lists.Find(v.Members, func(m Member) bool { return t.Is(m.target()) })
}

// NodeMember is MemberOn with the reason when there is none.
func (v View) NodeMember(t talos.Target) (Member, error) {
	if m, ok := v.MemberOn(t); ok {
		return m, nil
	}

	if t.Type == target.Worker {
		return Member{}, errs.Usagef("%s is a worker, and etcd runs on control plane nodes only", t.Name())
	}

	return Member{}, v.reason(t)
}

// Alarms are all active alarms, each once, with the node of the member that has it, whichever node reported it.
func (v View) Alarms() []talos.EtcdAlarm {
	out := []talos.EtcdAlarm{}

	for _, a := range v.Answers {
		for _, alarm := range a.Alarms {
			if slices.ContainsFunc(out, func(o talos.EtcdAlarm) bool { return o.ID == alarm.ID && o.Alarm == alarm.Alarm }) {
				continue
			}

			for _, m := range v.Members {
				if m.ID == alarm.ID {
					alarm.SetNode(talos.Target{Address: m.Node, Hostname: m.Name})
				}
			}

			out = append(out, alarm)
		}
	}

	lists.Sort(out, func(a, b talos.EtcdAlarm) int {
		return cmp.Or(target.CompareAddresses(a.Node, b.Node), strings.Compare(a.ID, b.ID), strings.Compare(a.Alarm, b.Alarm))
	})

	return out
}

// Err joins the errors of the nodes in the given parts (all by default), one a node, nil if there are none. A learner
// lists neither members nor alarms, which is an error only where no other node does. question makes a missing node a no.
func (v View) Err(question bool, parts ...Part) error {
	failed := &errs.Nodes{Question: question}
	failed.Succeeded = len(lists.Filter(v.Answers, func(a Answer) bool { return a.Err(parts...) == nil }))

	for _, a := range v.Answers {
		err := a.Err(parts...)
		if err != nil && (failed.Succeeded == 0 || !conn.EtcdLearner(err)) {
			failed.Errors = append(failed.Errors, errs.Typed(err, a.Target.Address, a.Target.Hostname))
		}
	}

	if len(failed.Errors) == 0 {
		return nil
	}

	return failed
}

// nobody joins the errors of the nodes with the resulting error. Nodes that answered do not make it a partial success,
// since the wanted answer is missing.
func (v View) nobody(err *errs.Error, parts ...Part) error {
	failed := &errs.Nodes{}
	if errors.As(v.Err(false, parts...), &failed) {
		failed.Succeeded = 0
	}

	failed.Errors = append(failed.Errors, err)

	return failed
}

// Check runs the gates for an operation on the members of nodes. A view without a member list has no information on
// quorum, so it refuses.
func (v View) Check(act Act, nodes ...talos.Target) []gate.Verdict {
	ids := make([]string, 0, len(nodes))

	for _, t := range nodes {
		if m, ok := v.MemberOn(t); ok {
			ids = append(ids, m.ID)
		}
	}

	return v.CheckMembers(act, ids...)
}

// CheckMembers is Check by member IDs.
func (v View) CheckMembers(act Act, ids ...string) []gate.Verdict {
	if v.Known {
		return Check(v.Members, act, ids...)
	}

	cause := "no node returned one"
	if err := v.Err(false); err != nil {
		cause = err.Error()
	}

	return []gate.Verdict{gate.New(gate.EtcdQuorum, gate.Refuse, "", "the etcd member list cannot be read: %s", cause).
		WithRemedy("without a leader etcd lists no members; run `talosmate etcd status`")}
}
