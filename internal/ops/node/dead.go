package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/boot"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

const (
	// silence is how long a node must not answer to be taken for dead, beside what Kubernetes and etcd say.
	silence = 15 * time.Second
	// kubeLimit bounds the first look at Kubernetes.
	kubeLimit = 20 * time.Second
)

// rejoins is what has to be known of every machine that is removed without being wiped.
const rejoins = "the machine itself was not wiped and keeps the cluster's secrets: should it come back, it joins again; wipe it before, " +
	"by `talosmate node remove` once it answers"

// buryDead is the runbook for a node that is dead: what the cluster still has of it is taken away, without it.
// That it is dead is never taken from one look at it: all witnesses are asked.
func (r *run) buryDead(ctx context.Context) error {
	r.res.Dead = true
	r.stage("preflight", "looking whether the node is dead")

	view, member, err := r.deadMember(ctx)
	if err != nil {
		return err
	}

	node, verdict := r.deadKubernetes(ctx)
	verdicts := []gate.Verdict{verdict}

	if member != nil {
		verdicts = append(verdicts, view.PlanRemove(*member).Gates...)
	}

	if err = gate.Apply(verdicts, r.o.Overrides); err == nil {
		verdicts = append(verdicts, r.gateDead(ctx, node))
		err = gate.Apply(verdicts, r.o.Overrides)
	}

	r.res.Gates = append(r.res.Gates, verdicts...)
	r.tell(verdicts)

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		r.res.Status = Refused

		return err
	case member == nil && r.kube == nil:
		return errs.New(errs.Refused, "cannot remove %s: without Kubernetes nothing of it can be taken away", r.w.Target.Name())
	case member == nil && node == nil && r.w.Target.Hostname == "":
		return errs.Usagef("neither discovery nor Kubernetes nor etcd knows a node %s", r.w.Target.Name())
	}

	if r.o.DryRun {
		r.res.Status, r.res.Hint = Planned, rejoins
		r.stage("preflight", "dry run: nothing is done")

		return nil
	}

	if member != nil {
		if err = r.expel(ctx, view, *member); err != nil {
			return err
		}
	}

	if node != nil {
		r.beforeChange()

		if err = r.deleteKubernetesNode(ctx); err != nil {
			return err
		}
	}

	r.stage("remove", "%s", rejoins)
	r.res.Status, r.res.Hint = OK, rejoins

	return nil
}

// deadMember finds the node's etcd member. Discovery may have forgotten what kind of node it was: etcd is only
// not asked about what is known to be a worker.
func (r *run) deadMember(ctx context.Context) (view etcd.View, member *etcd.Member, err error) {
	if r.w.Target.Type == target.Worker {
		return view, nil, nil
	}

	if view, err = r.w.Etcd(ctx); err != nil {
		return view, nil, err
	}

	m, ok := view.MemberOn(r.w.Target)

	switch {
	case ok:
		return view, &m, nil
	case !view.Known:
		return view, nil, errs.New(errs.Unreachable, "cannot remove %s: no etcd member list can be read, so that whether it has a member is not known", r.w.Target.Name())
	default:
		return view, nil, nil
	}
}

// deadKubernetes connects, and finds the node's Kubernetes node without asking it. There may be none any more.
func (r *run) deadKubernetes(ctx context.Context) (*kube.Node, gate.Verdict) {
	address := r.w.Target.Address

	ctx, cancel := context.WithTimeout(ctx, kubeLimit)
	defer cancel()

	var nodes []kube.Node

	k, err := r.w.Kube(ctx)
	if err == nil {
		nodes, err = k.Nodes(ctx)
	}

	if err != nil {
		return nil, gate.New(gate.KubernetesAway, gate.Refuse, address, "the Kubernetes API cannot be reached: %v", err).
			WithRemedy("name a kubeconfig with --kubeconfig; without Kubernetes its node there stays, if it has one")
	}

	r.kube = k

	n, ok := kube.Find(nodes, append([]string{address}, r.w.Target.Addresses...), r.w.Target.Hostname)
	if !ok {
		return nil, gate.New(gate.KubernetesAway, gate.Pass, address, "Kubernetes knows no such node")
	}

	r.res.K8sNodeName = n.Name

	return &n, gate.New(gate.KubernetesAway, gate.Pass, address, "the Kubernetes API answers, and knows the node as %s", n.Name)
}

// gateDead asks the witnesses of a node's death (TM149): Kubernetes must have stopped to hear from its kubelet,
// and its Talos API be silent by every way for a while.
func (r *run) gateDead(ctx context.Context, node *kube.Node) gate.Verdict {
	address, name := r.w.Target.Address, r.w.Target.Name()

	if node != nil && !node.Silent {
		return gate.New(gate.NodeAlive, gate.Refuse, address, "Kubernetes hears from the kubelet of %s, or did until a moment ago", name).
			WithRemedy("a node that died a moment ago is given up by Kubernetes within a minute: try again then")
	}

	r.stage("preflight", "the Talos API must stay silent for %s", silence)

	answer := r.awaitAnswer(ctx)
	if answer == "" {
		return gate.New(gate.NodeAlive, gate.Pass, address, "%s is dead: Talos was silent for %s%s", name, silence, heard(node))
	}

	return gate.New(gate.NodeAlive, gate.Refuse, address, "%s is not dead: %s", name, answer).
		WithRemedy("leave --dead away, so that it is drained and wiped")
}

func heard(node *kube.Node) string {
	if node == nil {
		return ", and Kubernetes has no such node"
	}

	return fmt.Sprintf(", and Kubernetes does not hear from its kubelet (%s)", node.ReadyMessage)
}

// awaitAnswer is how the node answered, empty when it was silent. A machine in maintenance mode is no node.
func (r *run) awaitAnswer(ctx context.Context) string {
	answer := ""

	err := poll.Until(ctx, "an answer of "+r.w.Target.Name(), boot.VerifyPoll, silence, func(ctx context.Context) (bool, string, error) {
		_, err := r.seen.Probe(ctx, "")

		switch {
		case err == nil:
			answer = "its Talos API answers"
		case !silent(err) && !r.inMaintenance(ctx):
			answer = err.Error()
		}

		return answer != "", "silence", nil
	})
	if err != nil && !errors.Is(err, poll.ErrDeadline) {
		return err.Error()
	}

	return answer
}

// silent says whether every part of an error is one of a node that does not answer.
func silent(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the tree is walked by hand, branch by branch
		return !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return !silent(e) })
	}

	kind := talos.KindOf(err)

	return kind == errs.KindUnreachable || kind == errs.KindTimeout || errors.Is(err, context.DeadlineExceeded)
}

func (r *run) inMaintenance(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, boot.ProbeLimit)
	defer cancel()

	status, err := r.w.Maint(ctx)

	return err == nil && status.Stage == "maintenance"
}

// expel takes the dead member out of etcd, by the others.
func (r *run) expel(ctx context.Context, view etcd.View, m etcd.Member) error {
	r.left = true
	r.stage("etcd", "taking member %s out of etcd", m.ID)

	change, err := r.w.Expel(ctx, view, m, r.beforeChange, r.sink)
	r.res.Etcd = &change

	switch {
	case err == nil:
		r.stage("etcd", "%d voters are left, %d of them must agree", change.VotersAfter, change.QuorumAfter)

		return nil
	case errs.ExitCode(err) == errs.Unknown:
		return r.fail(Unknown, "%w", err)
	default:
		return err
	}
}
