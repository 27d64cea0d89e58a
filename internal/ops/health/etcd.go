package health

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// etcdState is why etcd's member list is not known, and the check that reports it.
type etcdState struct {
	known    bool
	reporter string
	finding  Finding
}

// findEtcdState tells an etcd that was never bootstrapped from one without a quorum and one that cannot be asked.
func (s *survey) findEtcdState() etcdState {
	ready := make(chan []*nodeFacts, 1)

	go func() { ready <- s.waitingForEtcd() }()

	view := s.etcd()
	if view.Known {
		return etcdState{known: true}
	}

	answering := lists.Filter(view.Answers, func(a etcd.Answer) bool { return a.Status != nil })
	waiting := <-ready

	switch _, err := s.members(); {
	case len(view.Answers) == 0 && err != nil:
		return etcdState{reporter: "talos-discovery", finding: noMembers(err)}
	case len(view.Answers) == 0:
		return etcdState{reporter: "talos-discovery", finding: unknown("no control plane is known", nil)}
	case !slices.ContainsFunc(view.Answers, func(a etcd.Answer) bool { return !denied(a.Err()) }):
		return etcdState{reporter: "etcd-members", finding: notAuthorized("read the state of etcd")}
	case len(answering) > 0:
		what := "no quorum"
		if len(answering) >= etcd.Quorum(len(view.Answers)) {
			what = "no leader"
		}

		return etcdState{reporter: "etcd-quorum", finding: fail(fmt.Sprintf("%s: %d of %d members answer", what, len(answering), len(view.Answers)),
			"bring a member back, or recover from a snapshot")}
	case len(waiting) > 0 && len(waiting) == len(view.Answers):
		names := lists.Join(waiting, ", ", func(n *nodeFacts) string { return n.member.NodeName() })

		return etcdState{reporter: "etcd-members", finding: fail("etcd is not bootstrapped: it waits on "+names,
			"start it with `"+errs.CommandLine("bootstrap", "-n", waiting[0].member.NodeName())+"`, with --recover-from SNAPSHOT if the cluster had data")}
	default:
		return etcdState{reporter: "etcd-members", finding: unknown("the etcd members cannot be listed", view.Err(false))}
	}
}

// waitingForEtcd lists the control planes whose etcd waits to be bootstrapped or to join.
func (s *survey) waitingForEtcd() []*nodeFacts {
	var out []*nodeFacts

	controlPlanes := lists.Filter(s.listed(), func(n *nodeFacts) bool { return n.member.Type == target.ControlPlane })
	answers := make(chan *nodeFacts, len(controlPlanes))

	for _, n := range controlPlanes {
		go func() {
			list, _ := n.services() // one that does not answer does not wait
			if slices.ContainsFunc(list, func(svc talos.Service) bool { return svc.ID == "etcd" && svc.State == "preparing" }) {
				answers <- n
			} else {
				answers <- nil
			}
		}()
	}

	for range controlPlanes {
		if n := <-answers; n != nil {
			out = append(out, n)
		}
	}

	lists.Sort(out, byAddress)

	return out
}

// withEtcd passes on the view, or explains once why there is none.
func withEtcd(s *survey, id string, ask func(etcd.View) []Finding) []Finding {
	state := s.etcdState()
	if state.known {
		return ask(s.etcd())
	}

	return []Finding{s.once(state.reporter, id, state.finding)}
}

func etcdMembers(_ context.Context, s *survey) []Finding {
	return withEtcd(s, "etcd-members", func(view etcd.View) []Finding {
		var wrong []string

		for _, n := range s.all() {
			if n.member.Type != target.ControlPlane {
				continue
			}

			m, found := view.MemberOn(n.member.Target())

			switch {
			case !found && s.isGone(n):
			case !found:
				wrong = append(wrong, n.member.NodeName()+" is not a member")
			case m.Learner:
				wrong = append(wrong, n.member.NodeName()+" is a learner and does not vote yet")
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
	})
}

// isGone reports whether a node does not answer and is not part of the cluster any more.
func (s *survey) isGone(n *nodeFacts) bool {
	_, err := n.version()

	return err != nil && n.gone() != ""
}

func etcdHealth(_ context.Context, s *survey) []Finding {
	view := s.etcd()
	if state := s.etcdState(); !state.known && state.reporter != "etcd-quorum" {
		return []Finding{s.once(state.reporter, "etcd-health", state.finding)}
	}

	out := make([]Finding, 0, len(view.Members))

	for _, m := range view.Members {
		f := ok("follows " + view.Leader)

		switch {
		case !view.Known: // it may still take itself for the leader
			f = fail("the member answers, and can commit nothing", "talosmate etcd status")
		case m.ID == view.Leader:
			f.Message = "leads"
		case m.Learner && m.Healthy:
			f.Message = "learns from " + view.Leader
		case !m.Healthy && view.Status(m.ID) != nil:
			f = fail("the member has no leader", errs.CommandLine("service", "info", "etcd", "-n", m.Node))
		case !m.Healthy:
			f = fail("the member does not answer", errs.CommandLine("service", "info", "etcd", "-n", m.Node))
		}

		f.Node, f.Hostname = m.Node, m.Name
		out = append(out, f)
	}

	// Without a member list those that do not answer are known by their nodes.
	for _, a := range view.Answers {
		if !view.Known && a.Status == nil {
			f := fail("the member does not answer", "talosmate service info etcd -n "+a.Target.Address)
			f.Node, f.Hostname = a.Target.Address, a.Target.Hostname
			out = append(out, f)
		}
	}

	return out
}

func etcdQuorum(_ context.Context, s *survey) []Finding {
	return withEtcd(s, "etcd-quorum", func(view etcd.View) []Finding {
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
	})
}

func etcdConsistency(_ context.Context, s *survey) []Finding {
	return withEtcd(s, "etcd-consistency", func(view etcd.View) []Finding {
		if len(view.Differences) == 0 {
			return []Finding{ok("all nodes list the same members")}
		}

		out := make([]Finding, len(view.Differences))

		for i, d := range view.Differences {
			out[i] = fail(d.Error(), "talosmate etcd members -n "+d.Target.Address)
			out[i].Node, out[i].Hostname = d.Target.Address, d.Target.Hostname
		}

		return out
	})
}

func etcdAlarms(_ context.Context, s *survey) []Finding {
	return withEtcd(s, "etcd-alarms", func(view etcd.View) []Finding {
		if !slices.ContainsFunc(view.Answers, func(a etcd.Answer) bool { return a.Err(etcd.PartAlarms) == nil }) {
			return []Finding{unknown("the alarms cannot be read", view.Err(false, etcd.PartAlarms))}
		}

		if active := view.Alarms(); len(active) > 0 {
			text := lists.Join(active, ", ", func(a talos.EtcdAlarm) string {
				return a.Alarm + " on " + cmp.Or(a.Hostname, a.Node, a.ID)
			})

			return []Finding{fail(text, "talosmate etcd alarm list")}
		}

		return []Finding{ok("none")}
	})
}
