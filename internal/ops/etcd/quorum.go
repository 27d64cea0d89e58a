// Package etcd holds what talosmate knows about etcd: what quorum allows, the view of the whole cluster before one
// member is touched, and operations that change one member at a time. Upgrade, reboot and reset use it too.
package etcd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
)

// Act is an operation on a member.
type Act string

// The operations.
const (
	Restart Act = "restart" // The member is down for a while and comes back: reboot, upgrade.
	Leave   Act = "leave"   // The member leaves the cluster and stops: leave, graceful reset.
	Remove  Act = "remove"  // The others remove the member, whether it is alive or not.
)

// Member is one etcd member as the gates see it.
type Member struct {
	ID      string   // The member ID in hex.
	Name    string   // Its name, by default the node's hostname.
	Node    string   // The address of its node, empty when no node is known for it.
	Learner bool     // A learner has the data and does not vote.
	Healthy bool     // Its node answered, and it has a leader.
	Alarms  []string // Its active alarms: nospace, corrupt.
}

// target is the member's node, as far as etcd knows it.
func (m Member) target() talos.Target { return talos.Target{Address: m.Node, Hostname: m.Name} }

func (m Member) label() string {
	return cmp.Or(m.Name, m.Node, m.ID)
}

// Quorum is how many of n voters must agree: n/2+1.
func Quorum(n int) int { return n/2 + 1 }

// Check checks whether an operation on the members with the given IDs keeps etcd available. It is a pure function of
// the observed state. The rule is that of etcd's own reconfiguration check (server/etcdserver/api/membership,
// IsReadyToRemoveVotingMember), applied to the observed health instead of "started", and extended to restarts, which
// neither etcd nor Talos checks: the healthy voters during and after the operation must be at least the quorum of the
// size afterwards. Leave and Remove are themselves entries in the log, so the present quorum must hold too, or they
// would never be committed. Learners do not vote. Gates: TM120 quorum, TM121 another member unhealthy or an alarm,
// TM122 removal of a healthy member, TM123 last voter, TM124 two members. Exactly one of TM120, TM123 and TM124 reports
// on quorum when it does not simply pass.
func Check(members []Member, act Act, ids ...string) []gate.Verdict {
	s := situationOf(members, ids)

	switch {
	case len(members) == 0:
		return []gate.Verdict{gate.New(gate.EtcdQuorum, gate.Refuse, "", "the etcd members are not known, so quorum cannot be checked").
			WithRemedy("run `talosmate etcd status` for the cause")}
	case len(s.targets) == 0:
		return []gate.Verdict{gate.New(gate.EtcdQuorum, gate.Skip, "", "not a member of etcd")}
	}

	verdicts := []gate.Verdict{s.quorum(act)}
	verdicts = append(verdicts, s.others(act))

	if act == Remove {
		verdicts = append(verdicts, s.healthyTargets())
	}

	return verdicts
}

// situation holds the numbers for one operation.
type situation struct {
	members []Member
	targets []Member

	voters  int // Voters before the operation.
	healthy int // Healthy ones among them.
	leaving int // Voters among the targets.
	staying int // Healthy voters other than the targets.
}

func situationOf(members []Member, ids []string) situation {
	s := situation{members: members}

	for _, m := range members {
		target := slices.Contains(ids, m.ID)
		if target {
			s.targets = append(s.targets, m)
		}

		if m.Learner {
			continue
		}

		s.voters++

		if target {
			s.leaving++
		}

		if m.Healthy {
			s.healthy++

			if !target {
				s.staying++
			}
		}
	}

	return s
}

func (s situation) node() string {
	if len(s.targets) == 1 {
		return s.targets[0].Node
	}

	return ""
}

func (s situation) labels() string { return lists.Join(s.targets, ", ", Member.label) }

// quorum returns the one verdict on quorum.
func (s situation) quorum(act Act) gate.Verdict {
	if act == Restart {
		return s.restart()
	}

	after := s.voters - s.leaving

	switch {
	case after == 0:
		return gate.New(gate.LastVoter, gate.Refuse, s.node(), "%s is the last voting member: without it there is no etcd and no data", s.labels()).
			WithRemedy("add another control plane node first, or reset the node if the cluster is to be removed")
	case s.healthy < Quorum(s.voters):
		return gate.New(gate.EtcdQuorum, gate.Refuse, s.node(),
			"etcd has no quorum now (%d of %d voters healthy, %d needed), so no change of membership can be committed",
			s.healthy, s.voters, Quorum(s.voters)).
			WithRemedy("bring a member back, or recover from a snapshot with `talosmate bootstrap --recover-from`")
	case s.staying < Quorum(after):
		return gate.New(gate.EtcdQuorum, gate.Refuse, s.node(),
			"without %s %d of %d voters would be healthy, and %d are needed", s.labels(), s.staying, after, Quorum(after)).
			WithRemedy("%s", s.mendFirst())
	case s.voters == 2 && s.leaving == 1:
		return gate.New(gate.TwoMembers, gate.Warn, s.node(),
			"etcd is reduced from two members to one: nothing is lost now, and no copy of the data is left afterwards").
			WithRemedy("take a snapshot first")
	default:
		return gate.New(gate.EtcdQuorum, gate.Pass, s.node(), "without %s %d of %d voters stay healthy, %d are needed",
			s.labels(), s.staying, after, Quorum(after))
	}
}

func (s situation) restart() gate.Verdict {
	switch {
	case s.leaving == 0 && s.staying >= Quorum(s.voters):
		return gate.New(gate.EtcdQuorum, gate.Pass, s.node(), "%s is a learner and does not vote", s.labels())
	case s.voters == 1 && s.leaving == 1:
		return gate.New(gate.EtcdQuorum, gate.Warn, s.node(),
			"%s is the only voting member: etcd and the Kubernetes API are down until it is back", s.labels())
	case s.voters == 2 && s.leaving > 0:
		return gate.New(gate.TwoMembers, gate.Refuse, s.node(),
			"etcd has two members and needs both: it stops until %s is back, and permanently if that fails", s.labels()).
			WithRemedy("add a third control plane node, or take a snapshot and accept the outage")
	case s.staying < Quorum(s.voters):
		return gate.New(gate.EtcdQuorum, gate.Refuse, s.node(),
			"while %s is down %d of %d voters would be healthy, and %d are needed", s.labels(), s.staying, s.voters, Quorum(s.voters)).
			WithRemedy("%s", s.mendFirst())
	default:
		return gate.New(gate.EtcdQuorum, gate.Pass, s.node(), "while %s is down %d of %d voters stay healthy, %d are needed",
			s.labels(), s.staying, s.voters, Quorum(s.voters))
	}
}

func (s situation) mendFirst() string {
	unhealthy := lists.Filter(s.members, func(m Member) bool { return !m.Healthy && !m.Learner && !s.isTarget(m) })
	if len(unhealthy) == 0 {
		return "change fewer members at once"
	}

	return "bring back " + lists.Join(unhealthy, ", ", Member.label) + " first"
}

func (s situation) isTarget(m Member) bool {
	return slices.ContainsFunc(s.targets, func(t Member) bool { return t.ID == m.ID })
}

// others reports problems other than quorum. A restart is refused until they are fixed: the next failure, or a restarted
// member that does not come back, would be one too many (Talos's own check before a legacy upgrade requires the same of
// every member). A change of membership may be the fix itself, so there it is only a warning.
func (s situation) others(act Act) gate.Verdict {
	var found []string

	voter := false

	for _, m := range s.members {
		if !m.Healthy && !s.isTarget(m) {
			kind := "member"
			if m.Learner {
				kind = "learner"
			}

			found = append(found, fmt.Sprintf("%s %s is unhealthy", kind, m.label()))
			voter = voter || !m.Learner
		}

		for _, a := range m.Alarms {
			found = append(found, fmt.Sprintf("%s has the alarm %s", m.label(), a))
			voter = true
		}
	}

	if len(found) == 0 {
		return gate.New(gate.EtcdUnhealthy, gate.Pass, s.node(), "every other member is healthy and there is no alarm")
	}

	outcome := gate.Warn
	if act == Restart && voter && s.leaving > 0 {
		outcome = gate.Refuse
	}

	return gate.New(gate.EtcdUnhealthy, outcome, s.node(), "%s", strings.Join(found, "; ")).
		WithRemedy("run `talosmate etcd status` and `talosmate etcd alarm list`")
}

func (s situation) healthyTargets() gate.Verdict {
	healthy := lists.Filter(s.targets, func(m Member) bool { return m.Healthy })
	if len(healthy) == 0 {
		return gate.New(gate.HealthyMember, gate.Pass, s.node(), "%s is unhealthy", s.labels())
	}

	return gate.New(gate.HealthyMember, gate.Refuse, s.node(), "%s is healthy", lists.Join(healthy, ", ", Member.label)).
		WithRemedy("a member that is alive can leave: `talosmate etcd leave -n %s`", healthy[0].label())
}
