package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// MembershipChange is what happened to the cluster's membership or leadership.
type MembershipChange struct {
	Action       string         `json:"action"`                  // remove, leave or forfeit-leadership.
	Status       string         `json:"status"`                  // done, planned, refused, unchanged, failed, unknown or interrupted (nothing of it shows).
	Member       MemberRef      `json:"member"`                  // The member that it was about.
	Healthy      bool           `json:"healthy"`                 // Whether that member was healthy before.
	VotersBefore int            `json:"voters_before"`           // Voting members before; 0 when the member list could not be read.
	VotersAfter  int            `json:"voters_after"`            // Voting members after; for a plan, as they would be.
	QuorumAfter  int            `json:"quorum_after"`            // How many of them must agree.
	LeaderBefore *MemberRef     `json:"leader_before,omitempty"` // Who led before.
	LeaderAfter  *MemberRef     `json:"leader_after,omitempty"`  // Who leads now; absent for a plan.
	HandedTo     string         `json:"handed_to,omitempty"`     // The member that the node says it handed leadership to.
	Gates        []gate.Verdict `json:"gates"`                   // What the safety gates said; never null.
}

// FindMember finds a member by name, hostname, address, or ID in hex (with or without 0x, leading zeros and
// case do not matter) or decimal. Nothing or more than one found is a usage error with the candidates, unless
// the member list could not be read: that is the refusal of every act on it.
func (v View) FindMember(name string) (Member, error) {
	var found []Member

	for _, m := range v.Members {
		if v.names(m, name) {
			found = append(found, m)
		}
	}

	candidates := func(list []Member) string {
		all := make([]string, len(list))
		for i, m := range list {
			all[i] = m.label() + " (" + m.ID + ")"
		}

		return strings.Join(all, ", ")
	}

	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && !v.Known:
		return Member{}, gate.Apply(v.CheckMembers(Remove), nil) // whether there is such a member cannot be said
	case len(found) == 0:
		return Member{}, errs.Usagef("no etcd member is called %q and none has that ID", name).WithHint("members: %s", candidates(v.Members))
	default:
		return Member{}, errs.Usagef("%q is ambiguous: %s", name, candidates(found)).WithHint("give the ID in hex with 0x before it")
	}
}

func (v View) names(m Member, name string) bool {
	if name == m.Name || name == m.Node {
		return true
	}

	for _, a := range v.Answers {
		if name != "" && a.Target.Address == m.Node && (a.Target.Hostname == name || slices.Contains(a.Target.Addresses, name)) {
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
		Action: action, Status: StatusPlanned, Member: *v.ref(m.ID), Healthy: m.Healthy,
		LeaderBefore: v.ref(v.Leader), Gates: []gate.Verdict{},
	}

	if !v.Known {
		return out // those that answered are not all
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

// PlanRemove says what removing a member would do, gates included.
func (v View) PlanRemove(m Member) MembershipChange {
	out := v.plan(ActionRemove, m)
	out.Gates = v.CheckMembers(Remove, m.ID)

	return out
}

// PlanLeave says what the leaving of a node's member would do, gates included.
func (v View) PlanLeave(m Member) MembershipChange {
	out := v.plan(ActionLeave, m)
	out.Gates = v.CheckMembers(Leave, m.ID)

	return out
}

// Remove carries out a planned removal. via is the node to ask, or nil for the best one.
func (e Env) Remove(ctx context.Context, v View, plan MembershipChange, via *talos.Target) (MembershipChange, error) {
	if via == nil {
		t, err := v.spokesman(plan.Member.ID)
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
		if talos.KindOf(err) == errs.KindNotFound {
			return nil // somebody else was faster; it is gone
		}

		return err
	}, gone)

	return e.finish(ctx, plan, err)
}

// Leave carries out a planned leave of the node's own member.
func (e Env) Leave(ctx context.Context, plan MembershipChange, node talos.Target) (MembershipChange, error) {
	e.tell(node.Name(), "leave", "leaving the cluster; etcd may refuse for a while and is then asked again by the node")

	err := e.carryOut(ctx, "the leave of "+node.Name(), func(ctx context.Context) error {
		return e.Access.Node(node).EtcdLeave(ctx)
	}, e.memberGone(plan.Member.ID))

	return e.finish(ctx, plan, err)
}

// finish looks at what is left of the cluster after a member went.
func (e Env) finish(ctx context.Context, plan MembershipChange, err error) (MembershipChange, error) {
	if plan.Status = StatusDone; err != nil {
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
	plan.Status = StatusFailed

	return plan
}

// PlanForfeit says what forfeiting leadership on a node would do: nothing when it does not lead.
func (v View) PlanForfeit(m Member) (MembershipChange, error) {
	out := v.plan(ActionForfeit, m)

	if m.ID != v.Leader {
		out.Status, out.LeaderAfter = StatusUnchanged, out.LeaderBefore

		return out, nil
	}

	for _, other := range v.Members {
		if other.ID != m.ID && other.Healthy && !other.Learner {
			return out, nil
		}
	}

	return failed(out), errs.New(errs.Failed, "there is no other healthy voting member to lead").
		WithKind(errs.KindPrecondition).WithHint("see `talosmate etcd status`")
}

// Forfeit hands leadership over and waits until another member is seen to lead.
func (e Env) Forfeit(ctx context.Context, plan MembershipChange, node talos.Target) (MembershipChange, error) {
	e.tell(node.Name(), "forfeit", "handing over leadership")

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

		return moved, moved // leadership may have come back
	})
	if err != nil {
		plan.Status = ended(ctx, err)

		return plan, err
	}

	// The wait is for a leader, whoever that is by then: another may have taken over meanwhile.
	v, err := e.newLeader(ctx, plan.Member.ID)
	plan.Status, plan.LeaderAfter = StatusDone, v.ref(v.Leader)

	if idle && err == nil {
		plan.Status = StatusUnchanged // it had lost leadership before it was asked
	}

	return plan, err
}
