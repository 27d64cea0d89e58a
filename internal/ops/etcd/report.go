package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// ListedMember is one member of the cluster with the nodes that list it.
type ListedMember struct {
	Node       string   `json:"node"`               // The node that the member runs on, by its peer URL or by its own report.
	Hostname   string   `json:"hostname,omitempty"` // That node's hostname, where known.
	ID         string   `json:"id"`                 // The member ID in hex.
	IDDecimal  string   `json:"id_decimal"`         // The same ID in decimal.
	MemberName string   `json:"member_name"`        // The member's name, by default the node's hostname; empty before it first started.
	PeerURLs   []string `json:"peer_urls"`          // Where other members reach it.
	ClientURLs []string `json:"client_urls"`        // Where clients reach it; empty before it first started.
	Learner    bool     `json:"learner"`            // Whether it is a learner, which does not vote.
	ListedBy   []string `json:"listed_by"`          // The nodes that were asked and list it.
	MissingOn  []string `json:"missing_on"`         // The nodes that were asked and do not list it; never null.
}

// ListedMembers are all members that any node lists, each once, sorted by node and ID.
func (v View) ListedMembers() []ListedMember {
	rows := map[string]*ListedMember{}

	// The cluster's list comes first, so that its values are used where another list differs.
	every := lists.Map(v.Answers, func(a Answer) []talos.EtcdMember { return a.Members })
	for _, m := range slices.Concat(v.memberList(), slices.Concat(every...)) {
		if rows[m.ID] != nil {
			continue
		}

		row := &ListedMember{
			Node: m.Address(), Hostname: m.MemberName, ID: m.ID, IDDecimal: m.IDDecimal, MemberName: m.MemberName,
			PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.Learner, ListedBy: []string{}, MissingOn: []string{},
		}

		if a := v.answerOf(m); a != nil {
			row.Node = a.Target.Address

			if a.Target.Hostname != "" {
				row.Hostname = a.Target.Hostname
			}
		}

		rows[m.ID] = row
	}

	out := make([]ListedMember, 0, len(rows))

	for _, row := range rows {
		for _, a := range v.Answers {
			switch {
			case a.Members == nil:
			case slices.ContainsFunc(a.Members, func(m talos.EtcdMember) bool { return m.ID == row.ID }):
				row.ListedBy = append(row.ListedBy, a.Target.Address)
			default:
				row.MissingOn = append(row.MissingOn, a.Target.Address)
			}
		}

		out = append(out, *row)
	}

	lists.Sort(out, func(a, b ListedMember) int {
		return cmp.Or(target.CompareAddresses(a.Node, b.Node), strings.Compare(a.ID, b.ID))
	})

	return out
}

// Consistent is nil when all member lists that were read are the same; otherwise the error names the differences.
func (v View) Consistent() error {
	var all []error

	for _, d := range v.Differences {
		e := errs.New(errs.Negative, "%s", d.Error()).OnNode(d.Target.Address).WithKind("inconsistent").
			WithHint("talosmate etcd members")
		e.Hostname = d.Target.Hostname
		all = append(all, e)
	}

	return errors.Join(all...)
}

// StatusRows returns the state of every member, with lag and alarms, which need the answers of all members. A control
// plane that gave no status has a row with the reason.
func (v View) StatusRows() []talos.EtcdStatus {
	alarms := v.Alarms()
	rows := []talos.EtcdStatus{}

	for _, a := range v.Answers {
		err := a.Err(PartStatus)
		if a.Status == nil && (err == nil || conn.KindOf(err) == errs.KindUnimplemented) {
			continue // a worker
		}

		row := talos.EtcdStatus{Errors: []string{}, Alarms: []string{}, Members: []string{}}

		if a.Status != nil {
			row = *a.Status
			row.RaftLag = v.Lag(row)
		} else {
			row.Error = err.Error()

			if m, ok := v.MemberOn(a.Target); ok {
				row.ID, row.Learner = m.ID, m.Learner
				if id, ok := talos.ParseEtcdID("0x" + m.ID); ok {
					row.IDDecimal = id.Decimal()
				}
			}
		}

		row.SetNode(a.Target)

		for _, alarm := range alarms {
			if alarm.ID == row.ID {
				row.Alarms = append(row.Alarms, alarm.Alarm)
			}
		}

		row.Members = append(row.Members, lists.Map(a.Members, func(m talos.EtcdMember) string { return m.ID })...)
		rows = append(rows, row)
	}

	lists.Sort(rows, func(a, b talos.EtcdStatus) int { return target.CompareAddresses(a.Node, b.Node) })

	return rows
}

// Healthy is nil when etcd is healthy: one leader that all members know, the same member list everywhere, no alarm,
// every member reachable and a voter. whole means that all control planes were asked, so that a member without an answer is missing.
func (v View) Healthy(whole bool) error {
	all := []error{v.Consistent()}

	for _, a := range v.Answers {
		if a.Status != nil && !hasLeader(*a.Status) {
			e := errs.New(errs.Negative, "the etcd member on %s has no leader", a.Target.Name()).OnNode(a.Target.Address).WithKind("no_leader").
				WithHint("too few members reach each other to elect one: check the others and the network between the control planes")
			e.Hostname = a.Target.Hostname
			all = append(all, e)
		}
	}

	for _, m := range v.Members {
		if m.Learner {
			all = append(all, errs.New(errs.Negative, "the etcd member %s is a learner and does not vote yet", m.label()).OnNode(m.Node).WithKind("learner").
				WithHint("talosmate health --scope etcd --wait"))
		}

		for _, alarm := range m.Alarms {
			all = append(all, errs.New(errs.Negative, "the etcd member %s has the alarm %s", m.label(), alarm).OnNode(m.Node).WithKind("alarm").
				WithHint("%s", alarmHint(alarm)))
		}

		if whole && v.Status(m.ID) == nil && !v.failed(m) {
			all = append(all, errs.New(errs.Negative, "the etcd member %s (%s) is missing: no node answers for it", m.label(), m.ID).
				OnNode(m.Node).WithKind("missing_member").
				WithHint("if its node is gone for good: talosmate etcd remove-member %s", m.ID))
		}
	}

	return errors.Join(all...)
}

// HealthyOn is nil when the member on a node is healthy: it answers, knows a leader, votes, has no alarm, and lists the members that
// the other nodes of the view list.
func (v View) HealthyOn(t talos.Target) error {
	m, err := v.NodeMember(t)
	if err != nil {
		return err
	}

	own := v
	own.Members = []Member{m}
	own.Answers = lists.Filter(v.Answers, func(a Answer) bool { return a.Target.Is(t) })
	own.Differences = lists.Filter(v.Differences, func(d Difference) bool { return d.Target.Is(t) })

	return errors.Join(own.Err(true), own.Healthy(true))
}

// failed reports whether the member's node is among the failures already.
func (v View) failed(m Member) bool {
	return slices.ContainsFunc(v.Answers, func(a Answer) bool { return a.Err() != nil && a.Target.Address == m.Node })
}

func alarmHint(alarm string) string {
	switch alarm {
	case AlarmNoSpace:
		return "etcd accepts no writes: free space (compact, then `talosmate etcd defrag`), then `talosmate etcd alarm disarm`"
	case AlarmCorrupt:
		return "the member's data differs from the others': remove it, wipe its node and let it join again"
	default:
		return fmt.Sprintf("check the etcd log of the member with the alarm %s", alarm)
	}
}

// The alarms of etcd.
const (
	AlarmNoSpace = "nospace"
	AlarmCorrupt = "corrupt"
)
