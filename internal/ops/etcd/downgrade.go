package etcd

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Downgrade is the result of a downgrade operation on the cluster's etcd.
type Downgrade struct {
	Action         string         `json:"action"`          // validate, enable or cancel.
	Status         runbook.Status `json:"status"`          // done, planned, refused, unchanged (enabled already) or failed.
	TargetVersion  string         `json:"target_version"`  // The version to downgrade to, MAJOR.MINOR; empty for cancel.
	ClusterVersion string         `json:"cluster_version"` // The cluster's version as the node answered; empty before the operation.
	Valid          bool           `json:"valid"`           // Whether etcd accepts it.
	Members        []MemberOf     `json:"members"`         // The members with their versions; never null.
	Gates          []gate.Verdict `json:"gates"`           // The verdicts of the safety gates; never null.
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

// CheckDowngradeVersion requires MAJOR.MINOR, as etcd does.
func CheckDowngradeVersion(version string) error {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) == 2 {
		_, major := strconv.ParseUint(parts[0], 10, 16)
		_, minor := strconv.ParseUint(parts[1], 10, 16)

		if major == nil && minor == nil {
			return nil
		}
	}

	return errs.Usagef("version %q is not of the form MAJOR.MINOR", version).WithHint("etcd is downgraded one minor version at a time: from 3.6 to 3.5")
}

// PlanDowngrade plans a downgrade operation. Enabling a downgrade requires that every member is healthy, since the
// members are then replaced one by one.
func (v View) PlanDowngrade(action, version string) Downgrade {
	out := Downgrade{Action: action, Status: runbook.Planned, TargetVersion: version, Members: v.versions(), Gates: []gate.Verdict{}}

	if action == DowngradeEnable {
		verdict := situationOf(v.Members, nil).others(Leave)
		if verdict.Verdict == gate.Warn {
			verdict.Verdict = gate.Refuse
		}

		out.Gates = append(out.Gates, verdict)
	}

	return out
}

func (v View) versions() []MemberOf {
	out := []MemberOf{}

	for _, m := range v.Members {
		row := MemberOf{MemberRef: *v.ref(m.ID)}
		if s := v.Status(m.ID); s != nil {
			row.Version, row.StorageVersion = s.Version, s.StorageVersion
		}

		out = append(out, row)
	}

	return out
}

// inProgress is etcd's refusal of a second downgrade (api/v3rpc/rpctypes, ErrGRPCDowngradeInProcess).
const inProgress = "has a downgrade job in progress"

// invalidTarget is its refusal of a version that is not one minor below (ErrGRPCInvalidDowngradeTargetVersion). Once a
// downgrade has taken effect, the cluster has that version, and the same target is refused like this.
const invalidTarget = "invalid downgrade target version"

// Prepare asks etcd whether the plan can be carried out; it changes nothing. A downgrade that is already enabled is
// left alone (unchanged).
func (e Env) Prepare(ctx context.Context, plan Downgrade, node talos.Target) (Downgrade, error) {
	if plan.Action != DowngradeEnable || gate.Apply(plan.Gates, nil) != nil {
		return plan, nil // gates are reported before anything else
	}

	enabled, err := e.enabled(ctx, plan.TargetVersion, node)

	switch {
	case enabled:
		plan.Status, plan.Valid, plan.ClusterVersion = runbook.Unchanged, true, plan.TargetVersion
	case err != nil:
		plan.Status = runbook.Failed
	}

	return plan, explain(plan.Action, err)
}

// enabled reports whether the downgrade to a version is enabled or complete. If there is no error and it is not
// enabled, etcd accepts it.
func (e Env) enabled(ctx context.Context, version string, node talos.Target) (bool, error) {
	actor := e.Access.Node(node)

	_, err := actor.EtcdDowngradeValidate(ctx, version)

	switch {
	case err == nil:
		return false, nil
	case strings.Contains(err.Error(), inProgress):
		return true, nil
	case !strings.Contains(err.Error(), invalidTarget):
		return false, err
	}

	status, statusErr := actor.EtcdStatus(ctx)
	if statusErr != nil {
		return false, statusErr
	}

	if minor(status.StorageVersion) == version {
		return true, nil
	}

	return false, err
}

// cancelled reports whether no downgrade is in progress. etcd reveals this when it is asked about another one.
func (e Env) cancelled(ctx context.Context, node talos.Target) (yes, known bool) {
	actor := e.Access.Node(node)

	status, err := actor.EtcdStatus(ctx)
	if err != nil {
		return false, false
	}

	_, err = actor.EtcdDowngradeValidate(ctx, minor(status.StorageVersion))

	switch {
	case err == nil || strings.Contains(err.Error(), invalidTarget):
		return true, true
	case strings.Contains(err.Error(), inProgress):
		return false, true
	default:
		return false, false
	}
}

// minor is the MAJOR.MINOR of a version.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)

	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Downgrade carries out a plan through a node, and waits until the storage of every member shows it.
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
		}, func(ctx context.Context) (yes, known bool) {
			yes, err := e.enabled(ctx, plan.TargetVersion, node)

			return yes, err == nil || strings.Contains(err.Error(), invalidTarget)
		})
	case DowngradeCancel:
		err = e.carryOut(ctx, "cancelling the downgrade", func(ctx context.Context) (err error) {
			plan.ClusterVersion, err = actor.EtcdDowngradeCancel(ctx)

			return err
		}, func(ctx context.Context) (yes, known bool) { return e.cancelled(ctx, node) })
	}

	if plan.Valid = err == nil; !plan.Valid {
		plan.Status = ended(ctx, err)

		return plan, explain(plan.Action, err)
	}

	plan.Status = runbook.Done

	if plan.Action == DowngradeValidate {
		return plan, nil
	}

	return e.downgradeShown(ctx, plan)
}

// downgradeShown waits for the storage of every member: etcd's leader checks every few seconds and then changes the
// cluster's version, and each member changes its own file.
func (e Env) downgradeShown(ctx context.Context, plan Downgrade) (Downgrade, error) {
	err := poll.Until(ctx, "every member's storage to follow", pollEvery, e.Settle, func(ctx context.Context) (bool, string, error) {
		v, err := e.Access.Look(ctx)
		if err != nil || !v.Known {
			return false, "the members cannot be read", nil //nolint:nilerr // an observation that fails is repeated until the deadline
		}

		plan.Members = v.versions()

		for _, m := range plan.Members {
			want := plan.TargetVersion
			if plan.Action == DowngradeCancel {
				want = minor(m.Version)
			}

			if minor(m.StorageVersion) != want {
				return false, m.MemberName + " has " + m.StorageVersion, nil
			}
		}

		return true, "", nil
	})
	if errors.Is(err, poll.ErrDeadline) {
		return plan, errs.New(errs.Lost, "%s was carried out: %w", plan.Action, err).WithHint("talosmate etcd status")
	}

	return plan, err
}

// explain turns etcd's refusals, which come without codes, into errors with an exit code and a hint.
func explain(action string, err error) error {
	if err == nil {
		return nil
	}

	code := errs.Failed
	if action == DowngradeValidate {
		code = errs.Negative
	}

	switch has := func(text string) bool { return strings.Contains(err.Error(), text) }; {
	case has(inProgress):
		return errs.New(code, "%w", err).WithKind(errs.KindPrecondition).WithHint("end it with `talosmate etcd downgrade cancel`")
	case has(invalidTarget), has("version format"), conn.KindOf(err) == errs.KindInvalid:
		return errs.New(code, "%w", err).WithKind(errs.KindInvalid).WithHint("etcd is downgraded one minor version at a time")
	default:
		return err
	}
}
