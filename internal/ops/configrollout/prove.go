package configrollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Ways by which a node is seen.
const (
	byEndpoint   = "endpoint"   // Through another node, by the boot that only this machine has.
	byDirect     = "direct"     // At its own address.
	byMachine    = "machine"    // It says of itself that it is healthy, with the configuration.
	byEtcd       = "etcd"       // The other control planes have it as a healthy voter.
	byMembers    = "members"    // Another node lists it.
	byKubernetes = "kubernetes" // Kubernetes has it as Ready.
)

// prove watches the node until it was seen by all ways without a break for the settle time. A configuration on trial that
// is not proved in time is left to Talos, which reverts it.
func (r *run) prove(ctx context.Context) error {
	limit := r.s.o.ReadyTimeout + r.s.o.SettleTime
	if r.trying {
		limit = r.reverts.Sub(r.Now()) - r.margin()
	}

	r.Stage("verify", "the node must be seen for %s by everybody who saw it before, within %s", r.s.o.SettleTime, max(limit, 0).Round(time.Second))

	var (
		since time.Time
		last  Seen
	)

	err := errors.New("there is no time left to verify the node before Talos reverts")

	if limit > 0 {
		err = poll.Until(ctx, r.Target.Name()+" to be seen", probe.VerifyPoll, limit, func(ctx context.Context) (bool, string, error) {
			r.res.Seen = r.see(ctx)

			if missing, not := lists.Find(r.res.Seen, func(s Seen) bool { return !s.OK }); not {
				since, last = time.Time{}, missing

				return false, missing.By + ": " + missing.Message, nil
			}

			if since.IsZero() {
				since = r.Now()
			}

			return r.Now().Sub(since) >= r.s.o.SettleTime, "it has been seen since " + since.UTC().Format(time.TimeOnly), nil
		})
	}

	if last.By != "" && errors.Is(err, poll.ErrDeadline) {
		err = errs.New(errs.Failed, "it was not seen healthy with the new configuration (%s: %s)", last.By, last.Message)
	}

	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case r.trying:
		return r.reverted(ctx, err)
	default:
		return r.failed(ctx, err)
	}
}

// margin is the time before Talos reverts in which the configuration is made permanent.
func (r *run) margin() time.Duration { return min(r.s.o.TryTimeout/4, 20*time.Second) }

// see looks at the node by all ways at once.
func (r *run) see(ctx context.Context) []Seen {
	type way struct {
		by  string
		ask func(context.Context) (string, error)
	}

	ways := []way{{byEndpoint, func(ctx context.Context) (string, error) { return r.identity(ctx, r.n.Change) }}}
	if r.direct {
		ways = append(ways, way{byDirect, func(ctx context.Context) (string, error) {
			fresh, closeFresh := r.n.Fresh()
			defer func() { _ = closeFresh() }() // the connection served its one question

			return r.identity(ctx, fresh)
		}})
	}

	ways = append(ways, way{byMachine, r.machine})

	if r.n.ControlPlane {
		ways = append(ways, way{byEtcd, r.etcd})
	}

	if other, has := r.peer(); has {
		ways = append(ways, way{byMembers, func(ctx context.Context) (string, error) { return r.listed(ctx, other) }})
	}

	if r.k8s != "" {
		ways = append(ways, way{byKubernetes, r.kubernetes})
	}

	out := make([]Seen, len(ways))

	var group errs.Group

	for i, way := range ways {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probe.Limit)
			defer cancel()

			out[i] = Seen{By: way.by, OK: true}

			err := errs.Safely(func() (err error) { out[i].Message, err = way.ask(ctx); return err })
			if err != nil {
				out[i].OK, out[i].Message = false, err.Error()
			}

			if err != nil && ctx.Err() != nil {
				out[i].Message = fmt.Sprintf("no answer within %s", probe.Limit)
			}
		})
	}

	group.Wait()

	return out
}

// identity asks for the boot, which no other machine has.
func (r *run) identity(ctx context.Context, n probe.API) (string, error) {
	boot, err := n.Boot(ctx, r.boot.Proof)

	switch {
	case err != nil:
		return "", err
	case boot.ID != r.boot.ID:
		return "", fmt.Errorf("another boot or machine answers: %s, and it was %s", boot.ID, r.boot.ID)
	default:
		return "boot " + boot.ID, nil
	}
}

// machine asks whether the node runs with the configuration and is healthy.
func (r *run) machine(ctx context.Context) (string, error) {
	text, err := r.n.Change.MachineConfig(ctx)
	if err != nil {
		return "", err
	}

	if !machineconfig.Same(text, r.plan.source.text) {
		return "", errors.New("it does not run with the configuration")
	}

	status, err := r.n.Change.MachineStatus(ctx)
	if err == nil && !status.SettledBut(r.known) {
		err = fmt.Errorf("it is not healthy: %s", status)
	}

	return status.String(), err
}

// etcd asks the control planes for the node's member.
func (r *run) etcd(ctx context.Context) (string, error) {
	view, err := r.n.Etcd(ctx)
	if err != nil {
		return "", err
	}

	m, ok := view.MemberOn(r.Target)

	switch {
	case !ok:
		return "", errors.New("the node is not an etcd member")
	case m.Learner || !m.Healthy:
		return "", errors.New("its member is not a healthy voter")
	default:
		return "member " + m.ID, nil
	}
}

// peers asks etcd and Kubernetes whether they have the node as they had it before.
func (r *run) peers(ctx context.Context) error {
	if r.n.ControlPlane {
		if _, err := r.etcd(ctx); err != nil {
			return err
		}
	}

	if r.k8s != "" {
		if _, err := r.kubernetes(ctx); err != nil {
			return err
		}
	}

	return nil
}

// peer is another node that discovery lists, a control plane if there is one.
func (r *run) peer() (talos.Target, bool) {
	others := lists.Filter(r.n.Members, func(m talos.Member) bool { return m.Source != target.FromEtcd && !m.Is(r.Target) })
	if len(others) == 0 || r.Target.ID == "" {
		return talos.Target{}, false
	}

	if m, found := lists.Find(others, func(m talos.Member) bool { return m.Type == target.ControlPlane }); found {
		return m.Target(), true
	}

	return others[0].Target(), true
}

// listed asks another node whether it lists this one as a member.
func (r *run) listed(ctx context.Context, other talos.Target) (string, error) {
	list, err := r.s.Cluster.Node(other).Read.Resources(ctx, "cluster", "Members.cluster.talos.dev")
	if err != nil {
		return "", err
	}

	for _, one := range list {
		spec, err := talos.Decode[struct {
			NodeID string `json:"nodeId"`
		}](one)
		if err == nil && spec.NodeID == r.Target.ID {
			return other.Name() + " lists it as " + one.Metadata.ID, nil
		}
	}

	return "", fmt.Errorf("%s does not list it", other.Name())
}

// kubernetes asks for the node's readiness.
func (r *run) kubernetes(ctx context.Context) (string, error) {
	k, _, err := r.n.Kube(ctx)
	if err != nil {
		return "", err
	}

	name, err := r.n.Change.KubernetesName(ctx) // which the configuration may change
	if err != nil {
		return "", err
	}

	node, found, err := k.Node(ctx, name)

	switch {
	case err != nil:
		return "", err
	case !found:
		return "", fmt.Errorf("it has no node %s", name)
	case !node.Ready:
		return "", fmt.Errorf("%s is not Ready: %s", name, node.ReadyMessage)
	default:
		return name + " is Ready", nil
	}
}
