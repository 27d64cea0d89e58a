package health_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var errDown = errors.New("no route to host")

// node is a healthy node of that name.
func node(name string) *fake.Machine {
	m := fake.NewMachine("v1.13.9")
	m.Name, m.MountList = name, nil
	m.ServiceList = []talos.Service{{ID: "kubelet", State: "running", Health: talos.Healthy}}

	return m
}

type kubernetes []kube.Node

func (k kubernetes) Nodes(context.Context) ([]kube.Node, error)         { return k, nil }
func (k kubernetes) Workloads(context.Context) ([]kube.Workload, error) { return nil, nil }

// bed is a cluster of cp-1 to cp-3 and worker-1, at 10.0.0.1 to 4.
type bed struct {
	members    []talos.Member
	affiliates []talos.Member
	nodes      map[string]*fake.Machine // By address.
	etcd       []etcd.Member
	kube       kubernetes
	kubeErr    error
	only       []talos.Target
	timeout    time.Duration
}

func member(name, address, typ string) talos.Member {
	m := talos.Member{Addresses: []string{address}, Type: typ, NodeID: "id-" + address, Source: target.FromDiscovery}
	m.Node, m.Hostname = address, name

	return m
}

func newBed() *bed {
	b := &bed{nodes: map[string]*fake.Machine{}, timeout: time.Minute}

	for i, name := range []string{"cp-1", "cp-2", "cp-3", "worker-1"} {
		typ := target.ControlPlane
		if name == "worker-1" {
			typ = target.Worker
		}

		b.add(member(name, "10.0.0."+string(rune('1'+i)), typ))
	}

	return b
}

// withoutDiscovery leaves the members that etcd lists.
func (b *bed) withoutDiscovery() {
	b.members = b.members[:3]
	for i := range b.members {
		b.members[i].Source, b.members[i].NodeID = target.FromEtcd, ""
	}
}

// hang makes a node answer only once the channel is closed.
func (b *bed) hang(address string) chan struct{} {
	hung := make(chan struct{})
	b.nodes[address].Hung = hung

	return hung
}

func (b *bed) add(m talos.Member) {
	b.members = append(b.members, m)
	b.nodes[m.Node] = node(m.Hostname)
	b.kube = append(b.kube, kube.Node{Name: m.Hostname, Ready: true, Addresses: []string{m.Node}, KubeletVersion: "v1.36.0"})

	if m.Type == target.ControlPlane {
		b.etcd = append(b.etcd, etcd.Member{ID: m.Hostname, Name: m.Hostname, Node: m.Node, Healthy: true})
	}
}

// check returns the findings that are not ok, as lines.
func (b *bed) check(o health.Options) (health.Result, []string) {
	res := health.Check(context.Background(), health.Cluster{
		Members:    func(context.Context) ([]talos.Member, error) { return slices.Clone(b.members), nil },
		Affiliates: func(context.Context) ([]talos.Member, error) { return slices.Clone(b.affiliates), nil },
		Node:       func(t talos.Target) health.Node { return b.nodes[t.Address] },
		Etcd: func(_ context.Context, targets []talos.Target) etcd.View {
			return etcd.View{Known: true, Leader: "cp-1", Members: b.etcd, Answers: lists.Map(targets, func(t talos.Target) etcd.Answer {
				return etcd.Answer{Target: t}
			})}
		},
		Kubernetes: func(context.Context) (health.Kubernetes, bool, error) { return b.kube, false, b.kubeErr },
		Only:       b.only,
		Timeout:    b.timeout, Now: time.Now,
	}, o)

	bad := lists.Filter(res.Findings, func(f health.Finding) bool { return f.Status != health.OK && f.Status != health.Skip })

	return res, lists.Map(bad, func(f health.Finding) string {
		return f.Status + " " + strings.TrimSpace(f.ID+" "+f.Hostname) + ": " + f.Message
	})
}

func TestNodesThatAreMissing(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		change func(*bed)
		want   []string
	}{
		"nothing is missing": {func(*bed) {}, nil},
		"a dead worker is asked about at Kubernetes": {func(b *bed) {
			b.nodes["10.0.0.4"].Refuse = errDown
			b.kube[3].Ready, b.kube[3].ReadyMessage = false, "Kubelet stopped posting node status."
		}, []string{
			"fail talos-api worker-1: no answer from the node",
			"fail kubernetes-nodes worker-1: not Ready: Kubelet stopped posting node status.",
		}},
		"a worker was removed": {func(b *bed) {
			b.nodes["10.0.0.4"].Refuse = errDown
			b.kube = b.kube[:3]
		}, []string{
			"warn talos-api worker-1: no answer; discovery still lists it and Kubernetes does not: it was removed or replaced, or has not joined yet",
		}},
		"a control plane was removed": {func(b *bed) {
			b.nodes["10.0.0.3"].Refuse = errDown
			b.kube, b.etcd = slices.Delete(b.kube, 2, 3), slices.Delete(b.etcd, 2, 3)
		}, []string{
			"warn talos-api cp-3: no answer; discovery still lists it and neither etcd nor Kubernetes does: it was removed or replaced, or has not joined yet",
			"warn etcd-quorum: 2 of 2 voters are healthy, 2 are needed: the loss of one more stops etcd",
		}},
		"a member of etcd that is dead was not removed": {func(b *bed) {
			b.nodes["10.0.0.3"].Refuse = errDown
			b.kube = slices.Delete(b.kube, 2, 3)
		}, []string{
			"fail talos-api cp-3: no answer from the node",
			"fail kubernetes-nodes cp-3: Kubernetes has no node cp-3",
		}},
		"Kubernetes has a node that discovery does not list": {func(b *bed) {
			b.members = b.members[:3]
		}, []string{"fail talos-discovery worker-1: discovery does not list worker-1 (a Kubernetes node)"}},
		"etcd has a member that discovery does not list": {func(b *bed) {
			b.members[2].Source, b.members[2].NodeID = target.FromEtcd, ""
		}, []string{"fail talos-discovery cp-3: discovery does not list cp-3 (an etcd member)"}},
		"two machines have one hostname": {func(b *bed) {
			b.affiliates = append(slices.Clone(b.members), member("worker-1", "10.0.0.9", target.Worker))
			b.nodes["10.0.0.9"] = node("worker-1")
		}, []string{"fail talos-discovery worker-1: two machines have the hostname worker-1, and discovery lists the one at 10.0.0.4 only"}},
		"discovery lists the machine that was replaced": {func(b *bed) {
			b.affiliates = append(slices.Clone(b.members), member("worker-1", "10.0.0.9", target.Worker))
			b.nodes["10.0.0.9"] = node("worker-1")
			b.nodes["10.0.0.4"].Refuse = errDown
		}, []string{
			"warn talos-discovery worker-1: discovery lists the machine that it replaced, at 10.0.0.4",
			"warn talos-api worker-1: no answer; another machine has its hostname, at 10.0.0.9: it was replaced",
		}},
		"an earlier installation of a machine": {func(b *bed) {
			old := member("old", "10.0.0.4", target.Worker)
			old.NodeID = "another"
			b.affiliates = append(slices.Clone(b.members), old)
		}, nil},
		"a cluster without Kubernetes, and a dead worker": {func(b *bed) {
			for _, n := range b.nodes {
				n.Name, n.ServiceList = "", nil
			}

			b.nodes["10.0.0.4"].Refuse = errDown
		}, []string{"fail talos-api worker-1: no answer from the node"}},
		"discovery is disabled": {func(b *bed) {
			b.withoutDiscovery()
		}, []string{"warn talos-discovery: discovery is disabled: the nodes are those that etcd and Kubernetes list"}},
		"discovery is disabled, and a worker is down": {func(b *bed) {
			b.withoutDiscovery()
			b.nodes["10.0.0.4"].Refuse = errDown
		}, []string{
			"warn talos-discovery: discovery is disabled: the nodes are those that etcd and Kubernetes list",
			"fail talos-api worker-1: no answer from the node",
		}},
		"discovery is disabled, and Kubernetes does not answer": {func(b *bed) {
			b.withoutDiscovery()
			b.kubeErr = errDown
		}, []string{
			"warn talos-discovery: discovery is disabled: the nodes are those that etcd lists; workers were not checked",
			"unknown kubernetes-api: the Kubernetes API cannot be asked",
		}},
		"discovery is disabled, and a worker that is down was named": {func(b *bed) {
			b.withoutDiscovery()
			b.kube, b.kubeErr = nil, errDown
			b.nodes["10.0.0.4"].Refuse = errDown
			b.only = []talos.Target{{Address: "10.0.0.4", Hostname: "worker-1"}}
		}, []string{
			"warn talos-discovery: discovery is disabled: only the named nodes were checked",
			"fail talos-api worker-1: no answer from the node",
			"unknown kubernetes-api: the Kubernetes API cannot be asked",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			b := newBed()
			c.change(b)

			if _, got := b.check(health.Options{Scope: health.ScopeFull}); !slices.Equal(got, c.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
			}
		})
	}
}

// TestOneCheck shows that a check that runs alone reports the cause itself.
func TestOneCheck(t *testing.T) {
	t.Parallel()

	b := newBed()
	b.nodes["10.0.0.4"].Refuse = errDown

	res, got := b.check(health.Options{Scope: health.ScopeFull, Only: []string{"talos-stage"}})
	if want := []string{"fail talos-stage worker-1: no answer from the node"}; res.Healthy || !slices.Equal(got, want) {
		t.Errorf("%v %v", res.Healthy, got)
	}
}

// TestHungNode shows that what is known is told while a node hangs, and that the timeout ends the checks.
func TestHungNode(t *testing.T) {
	t.Parallel()

	b := newBed()
	hung := b.hang("10.0.0.1")

	const enough = 20

	told := 0
	tell := func(f health.Finding) {
		if told++; told == enough {
			close(hung)
		}

		if f.Node == "10.0.0.1" && f.ID == "talos-api" && told < enough {
			t.Errorf("only %d findings came before %s", told, f.Message)
		}
	}

	if res, got := b.check(health.Options{Scope: health.ScopeFull, Tell: tell}); !res.Healthy {
		t.Error(got)
	}

	b.hang("10.0.0.1")

	b.timeout = 50 * time.Millisecond

	if _, got := b.check(health.Options{Scope: health.ScopeFull}); !slices.Contains(got, "fail talos-api cp-1: no answer from the node") {
		t.Error(got)
	}
}

// TestNotAuthorized shows that a certificate without rights makes the cluster neither healthy nor unhealthy.
func TestNotAuthorized(t *testing.T) {
	t.Parallel()

	refused := errs.New(errs.Unreachable, "not authorized").WithKind(errs.KindPermissionDenied)
	res := health.Check(context.Background(), health.Cluster{
		Members: func(context.Context) ([]talos.Member, error) { return nil, refused },
		EtcdMembers: func(context.Context) ([]talos.EtcdMember, error) {
			return nil, refused
		},
		Etcd:       func(context.Context, []talos.Target) etcd.View { return etcd.View{} },
		Kubernetes: func(context.Context) (health.Kubernetes, bool, error) { return nil, true, refused },
		Timeout:    time.Second, Now: time.Now,
	}, health.Options{Scope: health.ScopeFull})

	if !res.Blind() || res.Healthy || res.Summary.Unknown > 0 || res.Summary.Fail > 0 || len(res.NotAuthorized) != len(health.IDs())-1 {
		t.Errorf("%+v, not authorized: %v", res.Summary, res.NotAuthorized)
	}
}
