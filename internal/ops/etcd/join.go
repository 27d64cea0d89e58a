package etcd

import (
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
)

// CheckJoin checks whether a voter may be added. The change is an entry in the log, so the present quorum must hold.
// One more voter may increase the quorum, so a cluster with a dead member must first remove that one: otherwise quorum
// would be lost if the new member does not start (etcd's documentation, op-guide/runtime-configuration). node is the
// address of the joining machine.
func (v View) CheckJoin(node string) []gate.Verdict {
	if !v.Known {
		return v.CheckMembers(Leave)
	}

	return checkJoin(v.Members, node)
}

// CheckJoinWithout is CheckJoin for the cluster after the removal of a member.
func (v View) CheckJoinWithout(id, node string) []gate.Verdict {
	if !v.Known {
		return v.CheckMembers(Leave)
	}

	return checkJoin(lists.Filter(v.Members, func(m Member) bool { return m.ID != id }), node)
}

func checkJoin(members []Member, node string) []gate.Verdict {
	s := situationOf(members, nil)

	quorum := gate.New(gate.EtcdQuorum, gate.Pass, node, "%d of %d voters are healthy, %d are needed; with the new one it is %d of %d",
		s.healthy, s.voters, Quorum(s.voters), Quorum(s.voters+1), s.voters+1)
	if s.healthy < Quorum(s.voters) {
		quorum = gate.New(gate.EtcdQuorum, gate.Refuse, node, "etcd has no quorum (%d of %d voters healthy, %d needed), so no member can be added",
			s.healthy, s.voters, Quorum(s.voters)).
			WithRemedy("bring a member back, or recover from a snapshot with `talosmate bootstrap --recover-from`")
	}

	var ill []string

	for _, m := range members {
		if !m.Healthy {
			ill = append(ill, m.label()+" is unhealthy")
		}

		for _, a := range m.Alarms {
			ill = append(ill, fmt.Sprintf("%s has the alarm %s", m.label(), a))
		}
	}

	others := gate.New(gate.EtcdUnhealthy, gate.Pass, node, "every member is healthy and there is no alarm")

	if m, joining := lists.Find(members, func(m Member) bool { return m.Learner }); joining {
		others = gate.New(gate.EtcdUnhealthy, gate.Warn, node, "%s is a learner: etcd takes another member only once it votes", m.label())
	}

	if len(ill) > 0 {
		others = gate.New(gate.EtcdUnhealthy, gate.Refuse, node, "%s", strings.Join(ill, "; ")).
			WithRemedy("bring it back, or replace it with `talosmate node replace`; run `talosmate etcd status`")
	}

	return []gate.Verdict{quorum, others}
}
