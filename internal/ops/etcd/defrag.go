package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Defragmented is the result of a defragmentation for one member.
type Defragmented struct {
	talos.NodeRef

	ID                  string         `json:"id"`                   // The member ID in hex.
	IDDecimal           string         `json:"id_decimal"`           // The same ID in decimal.
	Status              runbook.Status `json:"status"`               // done, skipped, planned, failed or not_reached.
	Leader              bool           `json:"leader"`               // Whether it was the leader when its turn came.
	BeforeBytes         int64          `json:"before_bytes"`         // The size of its database file before.
	AfterBytes          int64          `json:"after_bytes"`          // Its size afterwards; the same if nothing was done.
	FreedBytes          int64          `json:"freed_bytes"`          // By how much the file shrank.
	FragmentationBefore float64        `json:"fragmentation_before"` // The free part of the file before, 0 to 1.
	DurationSeconds     float64        `json:"duration_seconds"`     // How long the defragmentation took.
	Message             string         `json:"message"`              // Why it was skipped or failed.
}

// PlanDefrag lists the members of nodes in the order of their turns, the leader last, and the gates. A member that
// defragments serves no requests, so it is gated like a restart. A NOSPACE alarm does not refuse it, since
// defragmentation helps against that.
func (v View) PlanDefrag(nodes []talos.Target, threshold float64) ([]Defragmented, []gate.Verdict, error) {
	rows := []Defragmented{}

	var missing []error

	for _, t := range nodes {
		m, ok := v.MemberOn(t)
		status := v.Status(m.ID)

		if !ok || status == nil {
			missing = append(missing, v.reason(t))

			continue
		}

		row := Defragmented{
			NodeRef: talos.NodeRef{Node: t.Address, Hostname: t.Hostname}, ID: status.ID, IDDecimal: status.IDDecimal, Status: runbook.Planned,
			Leader: status.ID == v.Leader, BeforeBytes: status.DBSizeBytes, AfterBytes: status.DBSizeBytes, FragmentationBefore: status.Fragmentation,
		}

		switch {
		case status.Learner:
			row.Status, row.Message = runbook.Skipped, "the member is a learner, which etcd does not defragment"
		case status.Fragmentation < threshold:
			row.Status = runbook.Skipped
			row.Message = fmt.Sprintf("%.1f%% of the file is free, less than %.1f%%", 100*status.Fragmentation, 100*threshold)
		}

		rows = append(rows, row)
	}

	lists.Sort(rows, func(a, b Defragmented) int {
		return cmp.Or(compareBool(a.Leader, b.Leader), target.CompareAddresses(a.Node, b.Node))
	})

	var verdicts []gate.Verdict

	for _, row := range rows {
		if row.Status == runbook.Planned {
			verdicts = append(verdicts, v.checkDefrag(row.ID)...)
		}
	}

	return rows, verdicts, errors.Join(missing...)
}

// reason explains why a node has no member to defragment.
func (v View) reason(t talos.Target) error {
	for _, a := range v.Answers {
		if a.Target.Is(t) && a.Err(PartStatus) != nil {
			return a.Err(PartStatus)
		}
	}

	return errs.New(errs.Failed, "%s has no known etcd member", t.Name()).OnNode(t.Address).WithKind(errs.KindNotFound)
}

func (v View) checkDefrag(id string) []gate.Verdict {
	calm := v
	calm.Members = slices.Clone(v.Members)

	for i, m := range calm.Members {
		calm.Members[i].Alarms = slices.DeleteFunc(slices.Clone(m.Alarms), func(a string) bool { return a == AlarmNoSpace })
	}

	return calm.CheckMembers(Restart, id)
}

// Defrag carries out a plan, one member at a time. Before each turn the whole cluster is read again, and the current
// leader is defragmented last. A gate that refuses, or a member that does not become healthy again, ends the sweep; the
// rows show how far it came.
func (e Env) Defrag(ctx context.Context, rows []Defragmented, overrides gate.Overrides) ([]Defragmented, error) {
	done := 0

	for {
		v, err := e.Access.Look(ctx)
		if err != nil {
			return rows, e.stopped(rows, done, err)
		}

		next := v.nextTurn(rows)
		if next < 0 {
			return rows, nil
		}

		row := &rows[next]

		if err = gate.Apply(v.checkDefrag(row.ID), overrides); err != nil {
			return rows, e.stopped(rows, done, err)
		}

		if err = e.defragOne(ctx, v, row); err != nil {
			return rows, e.stopped(rows, done, err)
		}

		if err = e.healthyAgain(ctx, row); err != nil {
			return rows, e.stopped(rows, done, err)
		}

		done++
	}
}

// nextTurn is the next planned member: a follower as long as there is one.
func (v View) nextTurn(rows []Defragmented) int {
	leader := -1

	for i, row := range rows {
		if row.Status != runbook.Planned {
			continue
		}

		if row.ID != v.Leader {
			return i
		}

		leader = i
	}

	return leader
}

// NotReached marks the planned members that were not reached.
func NotReached(rows []Defragmented) {
	for i := range rows {
		if rows[i].Status == runbook.Planned {
			rows[i].Status = runbook.NotReached
		}
	}
}

func (e Env) stopped(rows []Defragmented, done int, cause error) error {
	NotReached(rows)

	if done == 0 {
		return cause
	}

	typed := errs.Typed(cause, "", "")
	if typed.Exit == errs.Interrupted {
		return cause
	}

	return &errs.Nodes{Errors: []*errs.Error{typed}, Succeeded: done}
}

func (e Env) defragOne(ctx context.Context, v View, row *Defragmented) error {
	target := talos.Target{Address: row.Node, Hostname: row.Hostname}
	node := e.Access.Node(target)
	started := e.Now()
	row.Leader = row.ID == v.Leader

	if status := v.Status(row.ID); status != nil {
		row.BeforeBytes, row.FragmentationBefore = status.DBSizeBytes, status.Fragmentation
	}

	e.tell(target.Name(), "defrag", "defragmenting %d bytes", row.BeforeBytes)

	// Whether a request whose answer was lost did its work shows in the size of the file, unless nothing was to be
	// freed. An unchanged size proves nothing.
	err := e.carryOut(ctx, "the defragmentation of "+target.Name(), node.EtcdDefragment, func(ctx context.Context) (bool, bool) {
		status, err := node.EtcdStatus(ctx)
		smaller := err == nil && status.DBSizeBytes < row.BeforeBytes

		return smaller, smaller
	})

	row.DurationSeconds = e.Now().Sub(started).Round(time.Millisecond).Seconds()

	if err != nil {
		row.Status, row.Message = ended(ctx, err), err.Error()

		return err
	}

	row.Status = runbook.Done

	return nil
}

// healthyAgain waits until the member answers, has a leader and is not far behind, and records its new size.
func (e Env) healthyAgain(ctx context.Context, row *Defragmented) error {
	const nearby = 1000 // raft entries; a busy cluster always has some lag

	name := talos.Target{Address: row.Node, Hostname: row.Hostname}.Name()

	err := poll.Until(ctx, "the etcd member on "+name+" to be healthy", pollEvery, e.Settle, func(ctx context.Context) (bool, string, error) {
		v, err := e.Access.Look(ctx)
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // an observation that fails is repeated until the deadline
		}

		status := v.Status(row.ID)
		if status == nil {
			return false, "no answer", nil
		}

		row.AfterBytes = status.DBSizeBytes
		row.FreedBytes = max(0, row.BeforeBytes-row.AfterBytes)

		return hasLeader(*status) && v.Lag(*status) < nearby, fmt.Sprintf("leader %s, lag %d", status.LeaderID, v.Lag(*status)), nil
	})
	if err == nil {
		e.tell(name, "defrag", "done, %d bytes freed", row.FreedBytes)

		return nil
	}

	row.Message = err.Error()

	if errors.Is(err, poll.ErrDeadline) {
		return errs.New(errs.Lost, "the etcd member on %s did not become healthy after its defragmentation: %w", name, err).OnNode(row.Node)
	}

	return err
}
