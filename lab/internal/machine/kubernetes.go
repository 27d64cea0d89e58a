package machine

import (
	"context"
	"fmt"
	"net"

	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// Stage is the machine's stage.
func (n *Node) Stage() runtime.MachineStage {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.stage
}

// KubernetesReachable sends a request to the API server of this control plane.
func (n *Node) KubernetesReachable(ctx context.Context) error {
	if !n.Registered() {
		var d net.Dialer

		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.Address.String(), "6443"))
		if err != nil {
			return fmt.Errorf("Get \"https://%s:6443/api/v1/nodes\": %w", n.Address, err)
		}

		return conn.Close()
	}

	if _, ok := n.kubelet.Status(ctx, n); !ok {
		return fmt.Errorf("node %q not found", n.Name)
	}

	return nil
}

// KubernetesNode reads the node from Kubernetes.
func (n *Node) KubernetesNode(ctx context.Context) (NodeStatus, bool) {
	if n.kubelet == nil {
		return NodeStatus{}, false
	}

	return n.kubelet.Status(ctx, n)
}

// SetAdminKubeconfig gives the node the kubeconfig of the lab's Kubernetes.
func (n *Node) SetAdminKubeconfig(raw []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.adminKubeconfig = raw
}

// AdminKubeconfig is the kubeconfig of the lab's Kubernetes; nil if it runs none.
func (n *Node) AdminKubeconfig() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.adminKubeconfig
}

// APIServerExits records whether the real API server exits with what this node rendered for it.
func (n *Node) APIServerExits(exits bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.apiServerExits = exits

	if n.state != nil {
		n.putStaticPodStatuses()
	}

	n.refresh()
}
