package etcd

import (
	"context"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// Downgrade is the answer to, or the result of, a downgrade of the cluster's etcd.
type Downgrade struct {
	Action         string         `json:"action"`          // validate, enable or cancel.
	Status         string         `json:"status"`          // done, planned, refused or failed.
	TargetVersion  string         `json:"target_version"`  // The version to go down to, MAJOR.MINOR; empty for cancel.
	ClusterVersion string         `json:"cluster_version"` // The cluster's version as the node answered; empty before the act.
	Valid          bool           `json:"valid"`           // Whether etcd agrees.
	Members        []MemberOf     `json:"members"`         // The members with their versions; never null.
	Gates          []gate.Verdict `json:"gates"`           // What the safety gates said; never null.
}

// MemberOf is a member with its versions.
type MemberOf struct {
	MemberRef

	Version        string `json:"version"`         // Its etcd server version, empty when it did not answer.
	StorageVersion string `json:"storage_version"` // The version of its storage schema.
}

// The actions of Downgrade.
const (
	DowngradeValidate = "validate"
	DowngradeEnable   = "enable"
	DowngradeCancel   = "cancel"
)

// CheckDowngradeVersion wants MAJOR.MINOR, as etcd does.
func CheckDowngradeVersion(version string) error {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) == 2 {
		_, major := strconv.ParseUint(parts[0], 10, 16)
		_, minor := strconv.ParseUint(parts[1], 10, 16)

		if major == nil && minor == nil {
			return nil
		}
	}

	return errs.Usagef("version %q is not of the form MAJOR.MINOR", version).WithHint("etcd goes down one minor at a time: from 3.6 to 3.5")
}

// PlanDowngrade says what a downgrade act would do. Enabling it wants every member healthy, since from then
// on the members have to be exchanged one by one.
func (v View) PlanDowngrade(action, version string) Downgrade {
	out := Downgrade{Action: action, Status: StatusPlanned, TargetVersion: version, Members: []MemberOf{}, Gates: []gate.Verdict{}}

	for _, m := range v.Members {
		row := MemberOf{MemberRef: *v.ref(m.ID)}
		if s := v.Status(m.ID); s != nil {
			row.Version, row.StorageVersion = s.Version, s.StorageVersion
		}

		out.Members = append(out.Members, row)
	}

	if action == DowngradeEnable {
		verdict := situationOf(v.Members, nil).others(Leave)
		if verdict.Verdict == gate.Warn {
			verdict.Verdict = gate.Refuse
		}

		out.Gates = append(out.Gates, verdict)
	}

	return out
}

// inProgress is etcd's refusal of a second downgrade (api/v3rpc/rpctypes, ErrGRPCDowngradeInProcess).
const inProgress = "already in a downgrade process"

// notInProgress is etcd's refusal to cancel what was not begun (ErrGRPCNoInflightDowngrade).
const notInProgress = "no inflight downgrade"

// Downgrade carries out a plan through a node.
func (e Env) Downgrade(ctx context.Context, plan Downgrade, node talos.Target) (Downgrade, error) {
	actor := e.Access.Node(node)

	var err error

	switch plan.Action {
	case DowngradeValidate:
		plan.ClusterVersion, err = actor.EtcdDowngradeValidate(ctx, plan.TargetVersion)
	case DowngradeEnable:
		err = e.carryOut(ctx, "enabling the downgrade", func(ctx context.Context) (err error) {
			plan.ClusterVersion, err = actor.EtcdDowngradeEnable(ctx, plan.TargetVersion)

			return err
		}, func(ctx context.Context) (bool, bool) { return downgrading(ctx, actor, plan.TargetVersion) })
	case DowngradeCancel:
		err = e.carryOut(ctx, "cancelling the downgrade", func(ctx context.Context) (err error) {
			plan.ClusterVersion, err = actor.EtcdDowngradeCancel(ctx)

			return err
		}, func(context.Context) (bool, bool) { return false, true }) // a second cancel is refused by etcd and harms nothing
	}

	plan.Status, plan.Valid = StatusDone, err == nil
	if err != nil {
		plan.Status = StatusFailed
	}

	return plan, e.explain(plan, err)
}

// explain turns etcd's refusals, which come without codes, into answers.
func (e Env) explain(plan Downgrade, err error) error {
	if err == nil {
		return nil
	}

	has := func(text string) bool { return strings.Contains(err.Error(), text) }

	switch {
	case has(inProgress):
		return errs.New(e.no(plan), "%w", err).WithKind(errs.KindPrecondition).WithHint("end it with `talosmate etcd downgrade cancel`")
	case has(notInProgress):
		return errs.New(errs.Failed, "%w", err).WithKind(errs.KindPrecondition).WithHint("no downgrade is enabled, there is nothing to cancel")
	case has("invalid downgrade target version"), has("version format"), talos.KindOf(err) == errs.KindInvalid:
		return errs.New(e.no(plan), "%w", err).WithKind(errs.KindInvalid).WithHint("etcd goes down one minor at a time")
	default:
		return err
	}
}

// no is the exit code of a refusal: an answer to a question, or a failed act.
func (e Env) no(plan Downgrade) errs.Code {
	if plan.Action == DowngradeValidate {
		return errs.Negative
	}

	return errs.Failed
}

// downgrading asks whether a downgrade is enabled: etcd then refuses to validate another.
func downgrading(ctx context.Context, actor Actor, version string) (yes, known bool) {
	_, err := actor.EtcdDowngradeValidate(ctx, version)
	if err == nil {
		return false, true
	}

	yes = strings.Contains(err.Error(), inProgress)

	return yes, yes
}
