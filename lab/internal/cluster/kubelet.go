package cluster

import (
	"context"

	"github.com/talosmate/talosmate/lab/internal/machine"
)

// kubeletProxy is the Kubernetes side of every node. It does nothing if the lab runs no Kubernetes, and is filled in
// once the control plane runs.
type kubeletProxy struct {
	cluster *Cluster
}

func (k kubeletProxy) Start(n *machine.Node) {
	if k.cluster.kubelet != nil {
		k.cluster.kubelet.Start(n)
	}
}

func (k kubeletProxy) Stop(n *machine.Node) {
	if k.cluster.kubelet != nil {
		k.cluster.kubelet.Stop(n)
	}
}

func (k kubeletProxy) Cordon(ctx context.Context, n *machine.Node) (bool, error) {
	if k.cluster.kubelet == nil {
		return false, nil
	}

	return k.cluster.kubelet.Cordon(ctx, n)
}

func (k kubeletProxy) Uncordon(ctx context.Context, n *machine.Node) error {
	if k.cluster.kubelet == nil {
		return nil
	}

	return k.cluster.kubelet.Uncordon(ctx, n)
}

func (k kubeletProxy) Drain(ctx context.Context, n *machine.Node) error {
	if k.cluster.kubelet == nil {
		return nil
	}

	return k.cluster.kubelet.Drain(ctx, n)
}

// RunAPIServer implements machine.Kubelet: the one API server is that of the first control plane, if this was chosen.
func (k kubeletProxy) RunAPIServer(n *machine.Node, s machine.APIServer) {
	if k.cluster.kubelet != nil && n.Number == 1 && k.cluster.Options.RenderedAPIServer {
		k.cluster.kubelet.RunAPIServer(n, s)
	}
}

func (k kubeletProxy) Status(ctx context.Context, n *machine.Node) (machine.NodeStatus, bool) {
	if k.cluster.kubelet == nil {
		return machine.NodeStatus{}, false
	}

	return k.cluster.kubelet.Status(ctx, n)
}
