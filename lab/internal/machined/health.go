package machined

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// healthPoll is the interval at which a failing condition is checked again.
const healthPoll = 500 * time.Millisecond

// condition is one of the checks of Talos's cluster health, in its words.
type condition struct {
	title string
	check func(context.Context, []node.Peer) error
}

// HealthCheck implements cluster.ClusterService.
func (s *Service) HealthCheck(req *cluster.HealthCheckRequest, srv grpc.ServerStreamingServer[cluster.HealthCheckProgress]) error {
	if err := s.controlPlaneOnly("cluster health check"); err != nil {
		return err
	}

	timeout := req.GetWaitTimeout().AsDuration()
	if timeout <= 0 {
		timeout = 20 * time.Minute
	}

	ctx, cancel := context.WithTimeout(srv.Context(), timeout)
	defer cancel()

	say := func(format string, args ...any) error {
		return srv.Send(&cluster.HealthCheckProgress{Message: fmt.Sprintf(format, args...)})
	}

	peers := s.chosen(req.GetClusterInfo())

	quoted := make([]string, 0, len(peers))
	for _, p := range peers {
		quoted = append(quoted, fmt.Sprintf("%q", p.Address.String()))
	}

	if err := say("discovered nodes: [%s]", strings.Join(quoted, " ")); err != nil {
		return err
	}

	for _, c := range s.conditions() {
		if err := await(ctx, c, peers, say); err != nil {
			return err
		}
	}

	return nil
}

// chosen returns the nodes to check: the request's, or all in discovery.
func (s *Service) chosen(info *cluster.ClusterInfo) []node.Peer {
	wanted := append(slices.Clone(info.GetControlPlaneNodes()), info.GetWorkerNodes()...)

	if len(wanted) == 0 {
		return s.node.Peers()
	}

	return slices.DeleteFunc(s.node.EveryPeer(), func(p node.Peer) bool { return !slices.Contains(wanted, p.Address.String()) })
}

func await(ctx context.Context, c condition, peers []node.Peer, say func(string, ...any) error) error {
	last := "..."
	if err := say("waiting for %s: ...", c.title); err != nil {
		return err
	}

	for {
		err := c.check(ctx, peers)
		if err == nil {
			return say("waiting for %s: OK", c.title)
		}

		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			if err := say("waiting for %s: %s", c.title, text); err != nil {
				return err
			}
		}

		select {
		case <-time.After(healthPoll):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return status.Error(codes.DeadlineExceeded, ctx.Err().Error())
			}

			return ctx.Err()
		}
	}
}

func (s *Service) conditions() []condition {
	return []condition{
		{"etcd to be healthy", s.etcdHealthy},
		{"etcd members to be consistent across nodes", s.etcdConsistent},
		{"etcd members to be control plane nodes", s.etcdControlPlanes},
		{"apid to be ready", eachNode(func(p node.Peer) error { return serviceHealthy(p, "apid") })},
		{"all nodes memory sizes", eachNode(reachable)},
		{"all nodes disk sizes", eachNode(reachable)},
		{"no diagnostics", eachNode(reachable)},
		{"kubelet to be healthy", eachNode(func(p node.Peer) error { return serviceHealthy(p, "kubelet") })},
		{"all nodes to finish boot sequence", eachNode(booted)},
		{"all k8s nodes to report", s.kubernetesReports},
		{"all control plane static pods to be running", s.staticPods},
		{"all control plane components to be ready", s.staticPods},
		{"all k8s nodes to report ready", s.nodesReady},
		{"kube-proxy to report ready", s.kubernetesReports},
		{"coredns to report ready", s.kubernetesReports},
		{"all k8s nodes to report schedulable", s.nodesSchedulable},
	}
}

func eachNode(check func(node.Peer) error) func(context.Context, []node.Peer) error {
	return func(_ context.Context, peers []node.Peer) error {
		var problems []error

		for _, p := range peers {
			if err := check(p); err != nil {
				problems = append(problems, err)
			}
		}

		return errors.Join(problems...)
	}
}

func reachable(p node.Peer) error {
	if p.Node == nil || !p.Node.Up() {
		return fmt.Errorf("rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp %s:50000: connect: connection refused\"", p.Address)
	}

	return nil
}

func serviceHealthy(p node.Peer, id string) error {
	if err := reachable(p); err != nil {
		return err
	}

	for _, svc := range p.Node.Services() {
		if svc.Id != id {
			continue
		}

		if svc.State != node.ServiceRunning {
			return fmt.Errorf("%s: service %q not in expected state %q: current state [%s] %s", p.Address, id, node.ServiceRunning, svc.State, lastLine(svc.Events.Events[len(svc.Events.Events)-1].Msg))
		}

		if !svc.Health.Unknown && !svc.Health.Healthy {
			return fmt.Errorf("%s: service is not healthy: %s", p.Address, id)
		}

		return nil
	}

	return fmt.Errorf("%s: service %q not found", p.Address, id)
}

func lastLine(s string) string { return strings.TrimSpace(s) }

func booted(p node.Peer) error {
	if err := reachable(p); err != nil {
		return err
	}

	if p.Node.Stage() != runtime.MachineStageRunning {
		return fmt.Errorf("event %s doesn't have boot sequence stop", p.Address)
	}

	return nil
}

func controlPlanes(peers []node.Peer) []node.Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p node.Peer) bool { return !p.ControlPlane })
}

func (s *Service) etcdHealthy(_ context.Context, peers []node.Peer) error {
	return eachNode(func(p node.Peer) error { return serviceHealthy(p, "etcd") })(context.Background(), controlPlanes(peers))
}

func (s *Service) etcdConsistent(ctx context.Context, peers []node.Peer) error {
	var (
		first []string
		from  string
	)

	for _, p := range controlPlanes(peers) {
		members, err := localMembers(ctx, p)
		if err != nil {
			return err
		}

		if first == nil {
			first, from = members, p.Address.String()
		} else if !slices.Equal(first, members) {
			return fmt.Errorf("etcd member lists are inconsistent: %s has %v, %s has %v", from, first, p.Address, members)
		}
	}

	return nil
}

func localMembers(ctx context.Context, p node.Peer) ([]string, error) {
	client, err := p.Node.LocalEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	ask, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), 5*time.Second)
	defer cancel()

	resp, err := client.MemberList(ask)
	if err != nil {
		return nil, err
	}

	list := resp.Members
	if p.Node.MemberListSkew() && len(list) > 0 {
		list = list[:len(list)-1]
	}

	names := make([]string, 0, len(list))
	for _, m := range list {
		names = append(names, m.Name)
	}

	slices.Sort(names)

	return names, nil
}

func (s *Service) etcdControlPlanes(ctx context.Context, peers []node.Peer) error {
	planes := controlPlanes(peers)
	if len(planes) == 0 {
		return errors.New("no control plane nodes")
	}

	members, err := localMembers(ctx, planes[0])
	if err != nil {
		return err
	}

	var names []string
	for _, p := range planes {
		names = append(names, p.Name)
	}

	slices.Sort(names)

	if !slices.Equal(names, members) {
		return fmt.Errorf("mismatch between etcd member and control plane nodes: etcd members %v, control plane nodes %v", members, names)
	}

	return nil
}

func (s *Service) kubernetesReports(ctx context.Context, _ []node.Peer) error {
	return s.node.KubernetesReachable(ctx)
}

// staticPods replaces Talos's check of Kubernetes' own pods, which the lab's API server does not run as pods.
func (s *Service) staticPods(ctx context.Context, _ []node.Peer) error {
	return s.node.KubernetesReachable(ctx)
}

func (s *Service) nodesReady(ctx context.Context, peers []node.Peer) error {
	var notReady []string

	for _, p := range peers {
		if st, ok := p.Node.KubernetesNode(ctx); !ok || !st.Ready {
			notReady = append(notReady, p.Name)
		}
	}

	if len(notReady) > 0 {
		return fmt.Errorf("some nodes are not ready: [%s]", strings.Join(notReady, " "))
	}

	return nil
}

func (s *Service) nodesSchedulable(ctx context.Context, peers []node.Peer) error {
	var cordoned []string

	for _, p := range peers {
		if st, ok := p.Node.KubernetesNode(ctx); ok && st.Unschedulable {
			cordoned = append(cordoned, p.Name)
		}
	}

	if len(cordoned) > 0 {
		return fmt.Errorf("some nodes are not schedulable: [%s]", strings.Join(cordoned, " "))
	}

	return nil
}
