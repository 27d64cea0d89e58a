package etcd

import (
	"context"
	"fmt"
	"slices"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// Disarmed is the result for the cluster's alarms.
type Disarmed struct {
	Status runbook.Status    `json:"status"` // done, planned, refused, unchanged (there was no alarm) or failed.
	Before []talos.EtcdAlarm `json:"before"` // The alarms that were active; never null.
	After  []talos.EtcdAlarm `json:"after"`  // The alarms that are active now; never null.
	Gates  []gate.Verdict    `json:"gates"`  // The verdicts of the safety gates; never null.
}

// lowFill is the part of its quota that a database may fill before NOSPACE is disarmed. etcd raises the alarm when the
// file, its free pages included, and the next write would exceed the quota (server/storage/quota.go). With less room
// than this, the alarm would be raised again immediately.
const lowFill = 0.9

// Usage is how full a member's database is.
type Usage struct {
	Member     Member
	Status     talos.EtcdStatus
	QuotaBytes int64
}

// Usages reads the quota of every member that answers while there is a NOSPACE alarm: a member without the alarm may
// raise it next.
func (e Env) Usages(ctx context.Context, v View) ([]Usage, error) {
	var out []Usage

	if !slices.ContainsFunc(v.Alarms(), func(a talos.EtcdAlarm) bool { return a.Alarm == AlarmNoSpace }) {
		return nil, nil
	}

	for _, m := range v.Members {
		status := v.Status(m.ID)
		if status == nil {
			continue
		}

		quota, err := e.Access.Node(talos.Target{Address: m.Node, Hostname: m.Name}).EtcdQuota(ctx)
		if err != nil {
			return nil, err
		}

		out = append(out, Usage{m, *status, quota})
	}

	return out, nil
}

// PlanDisarm plans the disarming. Disarming is for the whole cluster, as in etcd.
func (v View) PlanDisarm(usages []Usage) Disarmed {
	out := Disarmed{Status: runbook.Planned, Before: v.Alarms(), After: v.Alarms(), Gates: []gate.Verdict{}}
	if len(out.Before) == 0 {
		out.Status = runbook.Unchanged

		return out
	}

	for _, m := range v.Members {
		known := slices.ContainsFunc(usages, func(u Usage) bool { return u.Member.ID == m.ID })
		if known || slices.Contains(m.Alarms, AlarmNoSpace) {
			out.Gates = append(out.Gates, spaceFreed(m, usages))
		}

		for _, alarm := range m.Alarms {
			if alarm != AlarmNoSpace {
				out.Gates = append(out.Gates, gate.New(gate.EtcdUnhealthy, gate.Refuse, m.Node,
					"%s has the alarm %s, and disarming it does not repair its data", m.label(), alarm).WithRemedy("%s", alarmHint(alarm)))
			}
		}
	}

	return out
}

func spaceFreed(m Member, usages []Usage) gate.Verdict {
	u, known := lists.Find(usages, func(u Usage) bool { return u.Member.ID == m.ID })
	if !known {
		return gate.New(gate.SpaceNotFreed, gate.Refuse, m.Node, "%s does not answer, so its free space is unknown", m.label()).
			WithRemedy("bring the member back, or remove it")
	}

	full := float64(u.Status.DBSizeBytes) / float64(u.QuotaBytes)
	found := fmt.Sprintf("the database of %s fills %.0f%% of its quota (%d of %d bytes), %.0f%% of it free pages",
		m.label(), 100*full, u.Status.DBSizeBytes, u.QuotaBytes, 100*u.Status.Fragmentation)

	switch {
	case full < lowFill:
		return gate.New(gate.SpaceNotFreed, gate.Pass, m.Node, "%s", found)
	case float64(u.Status.DBInUseBytes) < lowFill*float64(u.QuotaBytes):
		return gate.New(gate.SpaceNotFreed, gate.Refuse, m.Node, "%s", found).
			WithRemedy("return the free pages: talosmate etcd defrag -n %s", m.label())
	default:
		return gate.New(gate.SpaceNotFreed, gate.Refuse, m.Node, "%s", found).
			WithRemedy("delete or compact keys (the Kubernetes API server compacts every five minutes), then `talosmate etcd defrag`; or raise quota-backend-bytes")
	}
}

// Disarm carries out a plan through a node and reads the remaining alarms.
func (e Env) Disarm(ctx context.Context, plan Disarmed, node talos.Target) (Disarmed, error) {
	e.tell(node.Name(), "disarm", "disarming %d alarms", len(plan.Before))

	var last View

	look := func(ctx context.Context) (none, known bool) {
		v, err := e.Access.Look(ctx)
		if err != nil || !slices.ContainsFunc(v.Answers, func(a Answer) bool { return a.Err(PartAlarms) == nil }) {
			return false, false
		}

		last = v

		return len(v.Alarms()) == 0, true
	}

	err := e.carryOut(ctx, "disarming the alarms", func(ctx context.Context) error { return e.Access.Node(node).EtcdAlarmDisarm(ctx) }, look)
	if err != nil {
		plan.Status = ended(ctx, err)

		return plan, err
	}

	none, known := e.readBack(ctx, look)
	if known {
		plan.After = last.Alarms()
	}

	if !none {
		plan.Status = runbook.Failed

		return plan, errs.New(errs.Failed, "alarms are still or again active: %s", describeAlarms(plan.After)).OnNode(node.Address)
	}

	plan.Status = runbook.Done

	return plan, nil
}

func describeAlarms(all []talos.EtcdAlarm) string {
	return lists.Join(all, ", ", func(a talos.EtcdAlarm) string {
		return a.Alarm + " on " + talos.Target{Address: a.Node, Hostname: a.Hostname}.Name()
	})
}
