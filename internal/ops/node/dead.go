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
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// silence is how long a node must not answer to count as dead, in addition to what Kubernetes and etcd say.
const silence = 15 * time.Second

// rejoins is what has to be known of every machine that is removed without being wiped.
const rejoins = "the machine itself was not wiped and keeps the cluster's secrets: if it comes back, it joins again; wipe it first, " +
	"with `talosmate node remove` once it answers"

// dead is what the cluster still has of a node that is dead.
type dead struct {
	view   etcd.View
	member *etcd.Member // Nil where it has none.
}

// findDead finds what the cluster still has of the node, and checks that it is dead: one probe proves nothing, so that
// Kubernetes, etcd and the node itself are all asked.
func (r *run) findDead(ctx context.Context) error {
	r.res.Dead = true
	r.Stage("preflight", "checking that the node is dead")

	if err := r.deadMember(ctx); err != nil {
		return err
	}

	node, verdict := r.deadKubernetes(ctx)
	verdicts := []gate.Verdict{verdict}

	if r.dead.member != nil {
		verdicts = append(verdicts, r.dead.view.PlanRemove(*r.dead.member).Gates...)
	}

	err := r.Check(verdicts...)
	if err == nil {
		err = r.Check(r.gateDead(ctx, node))
	}

	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case r.dead.member == nil && r.Kube == nil:
		return errs.New(errs.Refused, "cannot remove %s: without Kubernetes there is nothing of it to remove", r.Target.Name())
	case r.dead.member == nil && node == nil && r.Target.Hostname == "":
		return errs.Usagef("neither discovery nor Kubernetes nor etcd knows a node %s", r.Target.Name())
	}

	if r.o.DryRun {
		r.Rec.Hint = rejoins

		return r.Planned()
	}

	return nil
}

// expel removes the dead member from etcd, by the others.
func (r *run) expel(ctx context.Context) error {
	if r.dead.member == nil {
		return nil
	}

	return r.takeOut(ctx, r.dead.view, *r.dead.member, r.Node.Expel)
}

func (r *run) buried(context.Context) error {
	r.Stage("remove", "%s", rejoins)
	r.Rec.Hint = rejoins

	return nil
}

// deadMember finds the node's etcd member. Discovery may have forgotten the type of the node: etcd is only not asked
// about a node that is known to be a worker.
func (r *run) deadMember(ctx context.Context) (err error) {
	if r.Target.Type == target.Worker {
		return nil
	}

	if r.dead.view, err = r.Node.Etcd(ctx); err != nil {
		return err
	}

	switch m, ok := r.dead.view.MemberOn(r.Target); {
	case ok:
		r.dead.member = &m
	case !r.dead.view.Known:
		return errs.New(errs.Unreachable, "cannot remove %s: no etcd member list can be read, so that whether it has a member is not known", r.Target.Name())
	}

	return nil
}

// deadKubernetes connects, and finds the node's Kubernetes node without asking it. There may no longer be one.
func (r *run) deadKubernetes(ctx context.Context) (*kube.Node, gate.Verdict) {
	address := r.Target.Address

	ctx, cancel := context.WithTimeout(ctx, disruption.ConnectFor)
	defer cancel()

	var nodes []kube.Node

	k, _, err := r.Node.Kube(ctx)
	if err == nil {
		nodes, err = k.Nodes(ctx)
	}

	if err != nil {
		return nil, gate.New(gate.KubernetesAway, gate.Refuse, address, "the Kubernetes API cannot be reached: %v", err).
			WithRemedy("name a kubeconfig with --kubeconfig; without Kubernetes its node there stays, if it has one")
	}

	r.Kube = k

	n, ok := probe.FindNode(nodes, r.Target, "")
	if !ok {
		return nil, gate.New(gate.KubernetesAway, gate.Pass, address, "Kubernetes knows no such node")
	}

	r.K8sName = n.Name

	return &n, gate.New(gate.KubernetesAway, gate.Pass, address, "the Kubernetes API answers, and knows the node as %s", n.Name)
}

// gateDead checks that a node is dead (TM149): Kubernetes must no longer hear from its kubelet, and its Talos API must
// be silent by every way for a while.
func (r *run) gateDead(ctx context.Context, node *kube.Node) gate.Verdict {
	address, name := r.Target.Address, r.Target.Name()

	if node != nil && !node.Silent {
		return gate.New(gate.NodeAlive, gate.Refuse, address, "Kubernetes hears from the kubelet of %s, or did until a moment ago", name).
			WithRemedy("a node that died a moment ago is given up by Kubernetes within a minute: try again then")
	}

	r.Stage("preflight", "the Talos API must stay silent for %s", silence)

	answer := r.awaitAnswer(ctx)
	if answer == "" {
		return gate.New(gate.NodeAlive, gate.Pass, address, "%s is dead: Talos was silent for %s%s", name, silence, heard(node))
	}

	return gate.New(gate.NodeAlive, gate.Refuse, address, "%s is not dead: %s", name, answer).
		WithRemedy("omit --dead, so that it is drained and wiped")
}

func heard(node *kube.Node) string {
	if node == nil {
		return ", and Kubernetes has no such node"
	}

	return fmt.Sprintf(", and Kubernetes does not hear from its kubelet (%s)", node.ReadyMessage)
}

// awaitAnswer is how the node answered, empty when it was silent. A machine in maintenance mode is not a node.
func (r *run) awaitAnswer(ctx context.Context) string {
	answer := ""

	err := poll.Until(ctx, "an answer of "+r.Target.Name(), probe.VerifyPoll, silence, func(ctx context.Context) (bool, string, error) {
		_, err := r.Prober.Boot(ctx, "")

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

// silent reports whether every part of an error is that of a node that does not answer.
func silent(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the tree is walked by hand, branch by branch
		return !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return !silent(e) })
	}

	kind := conn.KindOf(err)

	return kind == errs.KindUnreachable || kind == errs.KindTimeout || errors.Is(err, context.DeadlineExceeded)
}

func (r *run) inMaintenance(ctx context.Context) bool {
	status, err := r.Node.InMaintenance(ctx)

	return err == nil && status.Stage == "maintenance"
}
