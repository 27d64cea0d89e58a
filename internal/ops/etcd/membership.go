package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// MembershipChange is the result of a change of membership or leadership.
type MembershipChange struct {
	Action       string         `json:"action"`                  // remove, leave or forfeit-leadership.
	Status       runbook.Status `json:"status"`                  // done, planned, refused, unchanged, failed, unknown or interrupted (no effect is visible).
	Member       MemberRef      `json:"member"`                  // The member concerned.
	Healthy      bool           `json:"healthy"`                 // Whether that member was healthy before.
	VotersBefore int            `json:"voters_before"`           // Voting members before; 0 when the member list could not be read.
	VotersAfter  int            `json:"voters_after"`            // Voting members after; for a plan, as they would be.
	QuorumAfter  int            `json:"quorum_after"`            // The quorum.
	LeaderBefore *MemberRef     `json:"leader_before,omitempty"` // The leader before.
	LeaderAfter  *MemberRef     `json:"leader_after,omitempty"`  // The leader now; absent for a plan.
	HandedTo     string         `json:"handed_to,omitempty"`     // The member to which the node passed leadership, as it reports it.
	Gates        []gate.Verdict `json:"gates"`                   // The verdicts of the safety gates; never null.
}

// FindMember finds a member by name, hostname, address, or ID in hex (with or without 0x; leading zeros and case do not
// matter) or decimal. No match or more than one is a usage error with the candidates. If the member list could not be
// read, it is a refusal, as for every operation on it.
func (v View) FindMember(name string) (Member, error) {
	found := lists.Filter(v.Members, func(m Member) bool { return v.names(m, name) })
	candidates := func(list []Member) string {
		return lists.Join(list, ", ", func(m Member) string { return m.label() + " (" + m.ID + ")" })
	}

	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && !v.Known:
		return Member{}, gate.Apply(v.CheckMembers(Remove), nil) // without the list this cannot be decided
	case len(found) == 0:
		return Member{}, errs.Usagef("etcd has no member with the name or ID %q", name).WithHint("members: %s", candidates(v.Members))
	default:
		return Member{}, errs.Usagef("%q is ambiguous: %s", name, candidates(found)).WithHint("give the ID in hex with 0x before it")
	}
}

func (v View) names(m Member, name string) bool {
	if name == m.Name || name == m.Node {
		return true
	}

	for _, a := range v.Answers {
		if name != "" && a.Target.Address == m.Node && (a.Target.Hostname == name || a.Target.Has(name)) {
			return true
		}
	}

	id, err := strconv.ParseUint(m.ID, 16, 64)
	if err != nil {
		return false
	}

	digits, forced := strings.CutPrefix(strings.ToLower(name), "0x")
	if hex, err := strconv.ParseUint(digits, 16, 64); err == nil && hex == id {
		return true
	}

	decimal, err := strconv.ParseUint(name, 10, 64)

	return !forced && err == nil && decimal == id
}

func (v View) plan(action string, m Member) MembershipChange {
	s := situationOf(v.Members, []string{m.ID})
	out := MembershipChange{
		Action: action, Status: runbook.Planned, Member: *v.ref(m.ID), Healthy: m.Healthy,
		LeaderBefore: v.ref(v.Leader), Gates: []gate.Verdict{},
	}

	if !v.Known {
		return out // some members did not answer
	}

	out.VotersBefore, out.VotersAfter = s.voters, s.voters

	if action != ActionForfeit {
		out.VotersAfter -= s.leaving
	}

	out.QuorumAfter = Quorum(out.VotersAfter)

	return out
}

// The actions of MembershipChange.
const (
	ActionRemove  = "remove"
	ActionLeave   = "leave"
	ActionForfeit = "forfeit-leadership"
)

// PlanRemove plans the removal of a member, gates included.
func (v View) PlanRemove(m Member) MembershipChange {
	out := v.plan(ActionRemove, m)
	out.Gates = v.CheckMembers(Remove, m.ID)

	return out
}

// PlanLeave plans the leave of a node's member, gates included.
func (v View) PlanLeave(m Member) MembershipChange {
	out := v.plan(ActionLeave, m)
	out.Gates = v.CheckMembers(Leave, m.ID)

	return out
}

// Remove carries out a planned removal. via is the node to send the request to, or nil for the best one.
func (e Env) Remove(ctx context.Context, v View, plan MembershipChange, via *talos.Target) (MembershipChange, error) {
	if via == nil {
		t, err := v.otherMember(plan.Member.ID)
		if err != nil {
			return failed(plan), err
		}

		via = &t
	}

	id, _ := talos.ParseEtcdID("0x" + plan.Member.ID)
	gone := e.memberGone(plan.Member.ID)

	e.tell(via.Name(), "remove", "removing member %s (%s)", plan.Member.ID, plan.Member.MemberName)

	err := e.carryOut(ctx, "the removal of etcd member "+plan.Member.ID, func(ctx context.Context) error {
		err := e.Access.Node(*via).EtcdRemoveMember(ctx, id)
		if conn.KindOf(err) == errs.KindNotFound {
			return nil // somebody else removed it first
		}

		return err
	}, gone)

	return e.finish(ctx, plan, err)
}

// Leave carries out a planned leave of the node's own member.
func (e Env) Leave(ctx context.Context, plan MembershipChange, node talos.Target) (MembershipChange, error) {
	e.tell(node.Name(), "leave", "leaving the cluster; while etcd refuses, the node retries")

	err := e.carryOut(ctx, "the leave of "+node.Name(), func(ctx context.Context) error {
		return e.Access.Node(node).EtcdLeave(ctx)
	}, e.memberGone(plan.Member.ID))

	return e.finish(ctx, plan, err)
}

// finish reads the state of the cluster after a member was removed.
func (e Env) finish(ctx context.Context, plan MembershipChange, err error) (MembershipChange, error) {
	if plan.Status = runbook.Done; err != nil {
		plan.Status = ended(ctx, err)

		return plan, err
	}

	v, err := e.newLeader(ctx, plan.Member.ID)
	plan.LeaderAfter = v.ref(v.Leader)

	if v.Known {
		plan.VotersAfter = situationOf(v.Members, nil).voters
		plan.QuorumAfter = Quorum(plan.VotersAfter)
	}

	return plan, err
}

func failed(plan MembershipChange) MembershipChange {
	plan.Status = runbook.Failed

	return plan
}

// PlanForfeit plans the forfeit of leadership by a node: nothing is done when it is not the leader.
func (v View) PlanForfeit(m Member) (MembershipChange, error) {
	out := v.plan(ActionForfeit, m)

	if m.ID != v.Leader {
		out.Status, out.LeaderAfter = runbook.Unchanged, out.LeaderBefore

		return out, nil
	}

	if slices.ContainsFunc(v.Members, func(o Member) bool { return o.ID != m.ID && o.Healthy && !o.Learner }) {
		return out, nil
	}

	return failed(out), errs.New(errs.Failed, "there is no other healthy voting member to lead").
		WithKind(errs.KindPrecondition).WithHint("talosmate etcd status")
}

// Forfeit passes on leadership and waits until another member is the leader.
func (e Env) Forfeit(ctx context.Context, plan MembershipChange, node talos.Target) (MembershipChange, error) {
	e.tell(node.Name(), "forfeit", "passing on leadership")

	idle := false

	err := e.carryOut(ctx, "forfeiting leadership on "+node.Name(), func(ctx context.Context) error {
		to, err := e.Access.Node(node).EtcdForfeitLeadership(ctx)
		plan.HandedTo, idle = to, err == nil && to == ""

		return err
	}, func(ctx context.Context) (bool, bool) {
		v, err := e.Access.Look(ctx)
		if err != nil || v.Leader == "" {
			return false, false
		}

		moved := v.Leader != plan.Member.ID

		return moved, moved // the member may be leader again
	})
	if err != nil {
		plan.Status = ended(ctx, err)

		return plan, err
	}

	// Any other leader ends the wait: a third member may have been elected meanwhile.
	v, err := e.newLeader(ctx, plan.Member.ID)
	plan.Status, plan.LeaderAfter = runbook.Done, v.ref(v.Leader)

	if idle && err == nil {
		plan.Status = runbook.Unchanged // it was no longer the leader when the request arrived
	}

	return plan, err
}
