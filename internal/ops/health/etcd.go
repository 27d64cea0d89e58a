package health

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func etcdMembers(_ context.Context, s *survey) []Finding {
	view := s.etcd()
	if !view.Known {
		return []Finding{unknown("the etcd members cannot be listed", view.Err(false))}
	}

	var wrong []string

	for _, t := range s.controlPlanes() {
		m, found := view.MemberOn(t)

		switch {
		case !found:
			wrong = append(wrong, t.Name()+" is not a member")
		case m.Learner:
			wrong = append(wrong, t.Name()+" is a learner")
		}
	}

	for _, m := range view.Members {
		if !slices.ContainsFunc(view.Answers, func(a etcd.Answer) bool { return a.Target.Has(m.Node) || a.Target.Hostname == m.Name }) {
			wrong = append(wrong, "member "+m.ID+" ("+m.Name+") has no control plane node")
		}
	}

	if len(wrong) > 0 {
		return []Finding{fail(strings.Join(wrong, "; "), "talosmate etcd members")}
	}

	return []Finding{ok(fmt.Sprintf("%d members", len(view.Members)))}
}

func etcdHealth(_ context.Context, s *survey) []Finding {
	view := s.etcd()
	if !view.Known {
		return []Finding{unknown("the etcd members cannot be listed", view.Err(false))}
	}

	out := make([]Finding, 0, len(view.Members))

	for _, m := range view.Members {
		f := ok("follows " + view.Leader)

		switch {
		case m.ID == view.Leader:
			f.Message = "leads"
		case !m.Healthy:
			f = fail("the member does not answer or has no leader", "talosmate etcd status; talosmate service info etcd -n "+m.Node)
		}

		f.Node, f.Hostname = m.Node, m.Name
		out = append(out, f)
	}

	slices.SortFunc(out, func(a, b Finding) int { return target.CompareAddresses(a.Node, b.Node) })

	return out
}

func etcdQuorum(_ context.Context, s *survey) []Finding {
	view := s.etcd()
	if !view.Known {
		return []Finding{unknown("the etcd members cannot be listed", view.Err(false))}
	}

	voters, healthy := 0, 0

	for _, m := range view.Members {
		if m.Learner {
			continue
		}

		voters++

		if m.Healthy {
			healthy++
		}
	}

	quorum := etcd.Quorum(voters)
	message := fmt.Sprintf("%d of %d voters are healthy, %d are needed", healthy, voters, quorum)

	switch {
	case healthy < quorum:
		return []Finding{fail("no quorum: "+message, "bring a member back, or recover from a snapshot")}
	case healthy == quorum:
		return []Finding{{Status: Warn, Message: message + ": the loss of one more stops etcd", Hint: "three or five voters tolerate a loss"}}
	default:
		return []Finding{ok(message)}
	}
}

func etcdConsistency(_ context.Context, s *survey) []Finding {
	view := s.etcd()
	if !view.Known {
		return []Finding{unknown("the etcd members cannot be listed", view.Err(false))}
	}

	if len(view.Differences) == 0 {
		return []Finding{ok("they do")}
	}

	out := make([]Finding, len(view.Differences))

	for i, d := range view.Differences {
		out[i] = fail(d.Error(), "talosmate etcd members -n "+d.Target.Address)
		out[i].Node, out[i].Hostname = d.Target.Address, d.Target.Hostname
	}

	return out
}

func etcdAlarms(_ context.Context, s *survey) []Finding {
	view := s.etcd()

	answered := slices.ContainsFunc(view.Answers, func(a etcd.Answer) bool { return a.Err() == nil })
	if !answered {
		return []Finding{unknown("the alarms cannot be read", view.Err(false))}
	}

	if active := view.Alarms(); len(active) > 0 {
		text := lists.Join(active, ", ", func(a talos.EtcdAlarm) string { return a.Alarm + " on " + a.ID })

		return []Finding{fail(text, "talosmate etcd alarm list")}
	}

	return []Finding{ok("none")}
}
