package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Cluster is the source of a fleet. Etcd, Health and Kubernetes are omitted where they are nil.
type Cluster struct {
	Context string
	Targets []talos.Target // The nodes of the fleet.
	// Nodes asks every target; its outcomes are in their order.
	Nodes  func(ctx context.Context, ask func(context.Context, *talos.Node) (Answer, error)) []talos.Outcome[Answer]
	Etcd   func(context.Context) (etcd.View, error)
	Health func(context.Context) health.Result
	// Kubernetes lists its nodes. denied means that the certificate may not do this, which is not a failure.
	Kubernetes func(context.Context) (nodes []kube.Node, denied bool, err error)
}

// Answer is the answer of one node, with the errors of its parts.
type Answer struct {
	Node   Node
	Errors []error
}

// Gather reads everything in parallel. A part that fails stays empty; the error joins the failures.
func Gather(ctx context.Context, c Cluster) (Fleet, error) {
	f := Fleet{
		Context: c.Context, Nodes: []Node{},
		Etcd: Etcd{Problems: []string{}, Members: []EtcdMember{}}, Health: Health{Checks: []Finding{}},
		Kubernetes: Kubernetes{Reason: "not asked"},
	}

	var (
		wg               errs.Group
		outcomes         []talos.Outcome[Answer]
		kubeNodes        []kube.Node
		etcdErr, kubeErr error
		denied           bool
	)

	wg.Go(func() { outcomes = c.Nodes(ctx, Ask) })

	if c.Etcd != nil {
		wg.Go(func() { etcdErr = errs.Safely(func() (err error) { f.Etcd, err = lookEtcd(ctx, c); return err }) })
	}

	if c.Health != nil {
		wg.Go(func() { f.Health = lookHealth(c.Health(ctx)) })
	}

	if c.Kubernetes != nil {
		wg.Go(func() {
			kubeErr = errs.Safely(func() (err error) { kubeNodes, denied, err = c.Kubernetes(ctx); return err })
			f.Kubernetes = Kubernetes{Available: kubeErr == nil}

			if kubeErr != nil {
				f.Kubernetes.Reason = kubeErr.Error()
			}
		})
	}

	wg.Wait()

	if ctx.Err() != nil {
		return f, context.Cause(ctx)
	}

	failed := f.take(outcomes)

	for i := range f.Nodes {
		f.Nodes[i].join(kubeNodes, outcomes[i].Target)
	}

	// Without a Kubernetes member, no Kubernetes API is expected.
	if denied || !slices.ContainsFunc(f.Nodes, func(n Node) bool { return n.Kubernetes.Name != "" }) {
		kubeErr = nil
	}

	for _, err := range []error{etcdErr, kubeErr} {
		if err != nil {
			failed.Errors = append(failed.Errors, errs.Typed(err, "", ""))
		}
	}

	if len(failed.Errors) == 0 {
		return f, nil
	}

	return f, failed
}

// take puts the answers of the nodes into the fleet, and returns what is missing.
func (f *Fleet) take(outcomes []talos.Outcome[Answer]) *errs.Nodes {
	failed := &errs.Nodes{}

	for _, o := range outcomes {
		n := o.Value.Node
		n.SetNode(o.Target)

		n.Type = o.Target.Type
		f.Nodes = append(f.Nodes, n.filled())

		all := o.Value.Errors
		if o.Err != nil {
			all = append(all, o.Err)
		}

		for _, err := range all {
			failed.Errors = append(failed.Errors, errs.Typed(err, o.Target.Address, o.Target.Hostname))
		}

		if n.Reachable {
			failed.Succeeded++
		}
	}

	return failed
}

// Ask reads one node. A node that does not report its version is not asked further.
func Ask(ctx context.Context, n *talos.Node) (Answer, error) {
	var (
		out Answer
		mu  sync.Mutex
		wg  errs.Group
	)

	v, err := n.Version(ctx)
	if err != nil {
		return out, err
	}

	node := &out.Node
	node.Reachable, node.Version, node.Arch, node.Platform = true, v.Tag, v.Arch, v.Platform

	part := func(read func() error) {
		wg.Go(func() {
			// What the certificate may not read stays empty, as documented.
			if err := errs.Safely(read); err != nil && !conn.OneOf(err, errs.KindPermissionDenied) {
				mu.Lock()
				defer mu.Unlock()

				out.Errors = append(out.Errors, err)
			}
		})
	}

	part(func() error { return node.readStatus(ctx, n) })
	part(func() error { return node.readServices(ctx, n) })
	part(func() error { return node.readSystem(ctx, n) })
	part(func() error { return node.readDisks(ctx, n) })
	part(func() error { return node.readAlerts(ctx, n) })
	part(func() (err error) { node.Boot, err = n.Boot(ctx, ""); return err })
	part(func() (err error) { node.Kubernetes.Name, err = n.KubernetesName(ctx); return err })
	part(func() error {
		config, err := n.ConfigFacts(ctx)
		node.InstallImage = config.InstallImage

		return err
	})
	wg.Wait()

	lists.Sort(out.Errors, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })

	if tag := imageref.Split(node.InstallImage).Tag; tag != "" {
		node.ImageDrift = strings.TrimPrefix(tag, "v") != strings.TrimPrefix(node.Version, "v")
	}

	return out, nil
}

func (n *Node) readStatus(ctx context.Context, from *talos.Node) error {
	s, err := from.MachineStatus(ctx)
	n.Stage, n.Ready = s.Stage, s.Ready

	for _, u := range s.Unmet {
		n.Unmet = append(n.Unmet, Unmet{Name: u.Name, Reason: u.Reason})
	}

	return err
}

func (n *Node) readServices(ctx context.Context, from *talos.Node) error {
	list, err := from.Services(ctx)
	for _, s := range list {
		n.Services = append(n.Services, Service{ID: s.ID, State: s.State, Health: s.Health})
	}

	return err
}

func (n *Node) readSystem(ctx context.Context, from *talos.Node) error {
	s, err := from.System(ctx)
	n.Schematic, n.SecureBoot, n.Security, n.Kubelet = s.Schematic, s.SecureBoot, s.SecurityState, s.Kubelet

	for _, e := range s.Extensions {
		n.Extensions = append(n.Extensions, Extension{Name: e.Name, Version: e.Version})
	}

	lists.Sort(n.Extensions, func(a, b Extension) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})

	return err
}

func (n *Node) readDisks(ctx context.Context, from *talos.Node) error {
	list, err := from.Disks(ctx)
	for _, d := range list {
		n.Disks = append(n.Disks, Disk{Device: d.Device, SizeBytes: d.SizeBytes, Model: d.Model, SystemDisk: d.SystemDisk})
	}

	lists.Sort(n.Disks, func(a, b Disk) int { return strings.Compare(a.Device, b.Device) })

	return err
}

func (n *Node) readAlerts(ctx context.Context, from *talos.Node) error {
	list, err := from.Resources(ctx, "runtime", "Diagnostics.runtime.talos.dev")
	if err != nil {
		return err
	}

	for _, r := range list {
		spec, err := talos.Decode[struct {
			Message string `json:"message"`
		}](r)
		if err != nil {
			return err
		}

		n.Alerts = append(n.Alerts, Alert{ID: r.Metadata.ID, Message: spec.Message})
	}

	return nil
}

// filled replaces null lists by empty ones.
func (n Node) filled() Node {
	n.Unmet = append([]Unmet{}, n.Unmet...)
	n.Services = append([]Service{}, n.Services...)
	n.Extensions = append([]Extension{}, n.Extensions...)
	n.Disks = append([]Disk{}, n.Disks...)
	n.Alerts = append([]Alert{}, n.Alerts...)

	return n
}

// join adds what Kubernetes knows of a node, unless the node itself says that it is not a member.
func (n *Node) join(list []kube.Node, t talos.Target) {
	if n.Reachable && n.Kubernetes.Name == "" {
		return
	}

	if k, found := probe.FindNode(list, t, n.Kubernetes.Name); found {
		n.Kubernetes = KubeNode{Name: k.Name, Known: true, Ready: k.Ready, Schedulable: !k.Unschedulable, Kubelet: k.KubeletVersion}
	}
}

func lookEtcd(ctx context.Context, c Cluster) (Etcd, error) {
	out := Etcd{Problems: []string{}, Members: []EtcdMember{}}

	view, err := c.Etcd(ctx)
	if err != nil {
		out.Problems = append(out.Problems, err.Error())

		return out, err
	}

	out.Known = view.Known

	problems := errs.Entries(errors.Join(view.Err(true), view.Healthy(true)))
	out.Problems = append(out.Problems, lists.Map(problems, func(e errs.Entry) string { return e.Message })...)
	slices.Sort(out.Problems)
	out.Healthy = view.Known && len(view.Members) > 0 && len(out.Problems) == 0

	for _, m := range view.Members {
		member := EtcdMember{ID: m.ID, Name: m.Name, Node: m.Node, Learner: m.Learner, Healthy: m.Healthy, Alarms: append([]string{}, m.Alarms...)}

		if s := view.Status(m.ID); s != nil {
			member.Version = s.Version
		}

		out.Members = append(out.Members, member)
	}

	lists.Sort(out.Members, func(a, b EtcdMember) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })

	return out, nil
}

func lookHealth(r health.Result) Health {
	out := Health{Healthy: r.Healthy, Failed: r.Summary.Fail, Unknown: r.Summary.Unknown, Warned: r.Summary.Warn, Checks: []Finding{}}

	for _, f := range r.Findings {
		if f.Status != health.OK && f.Status != health.Skip {
			out.Checks = append(out.Checks, Finding{ID: f.ID, Status: f.Status, Node: f.Node, Hostname: f.Hostname, Message: f.Message})
		}
	}

	return out
}
