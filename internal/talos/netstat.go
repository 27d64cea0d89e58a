package talos

import (
	"cmp"
	"context"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/internal/lists"
)

// Socket is a socket of a node.
type Socket struct {
	NodeRef

	Protocol     string `json:"protocol"`             // tcp, tcp6, udp, udp6, …
	LocalIP      string `json:"local_ip"`             // The local address.
	LocalPort    uint32 `json:"local_port"`           // The local port.
	RemoteIP     string `json:"remote_ip"`            // The remote address, unspecified for none.
	RemotePort   uint32 `json:"remote_port"`          // The remote port, 0 for none.
	State        string `json:"state"`                // listen, established, time_wait, …; close for UDP without a peer.
	ReceiveQueue uint64 `json:"receive_queue_bytes"`  // Bytes that wait to be read.
	SendQueue    uint64 `json:"send_queue_bytes"`     // Bytes that wait to be acknowledged.
	UID          uint32 `json:"uid"`                  // The owner's user ID.
	Inode        uint64 `json:"inode"`                // The socket's inode.
	PID          uint32 `json:"pid,omitempty"`        // The process, with --process.
	Process      string `json:"process,omitempty"`    // The process's name, with --process.
	Namespace    string `json:"network_ns,omitempty"` // The network namespace, with --kubernetes; empty for the host's.
	Pod          string `json:"pod,omitempty"`        // The pod it belongs to, NAMESPACE/NAME, with --kubernetes.
}

// Local is the local address with the port.
func (s Socket) Local() string { return hostPort(s.LocalIP, s.LocalPort) }

// Remote is the remote address with the port.
func (s Socket) Remote() string { return hostPort(s.RemoteIP, s.RemotePort) }

func hostPort(ip string, port uint32) string {
	if port == 0 {
		return net.JoinHostPort(ip, "*")
	}

	return net.JoinHostPort(ip, strconv.FormatUint(uint64(port), 10))
}

// SocketFilter selects sockets and their details.
type SocketFilter struct {
	Listening, Connected bool // Only those; both or none for all.
	TCP, UDP             bool // Only those; both or none for both.
	Process              bool // Find the process of each.
	Pods                 bool // Include the pods' network namespaces.
}

func (f SocketFilter) request() *machine.NetstatRequest {
	tcp, udp := f.TCP || !f.UDP, f.UDP || !f.TCP
	req := &machine.NetstatRequest{
		Feature: &machine.NetstatRequest_Feature{Pid: f.Process},
		L4Proto: &machine.NetstatRequest_L4Proto{Tcp: tcp, Tcp6: tcp, Udp: udp, Udp6: udp},
		Netns:   &machine.NetstatRequest_NetNS{Hostnetwork: true, Allnetns: f.Pods},
	}

	switch {
	case f.Listening && !f.Connected:
		req.Filter = machine.NetstatRequest_LISTENING
	case f.Connected && !f.Listening:
		req.Filter = machine.NetstatRequest_CONNECTED
	}

	return req
}

// Sockets lists the node's sockets by protocol, local and remote address. Roles: reader, operator, admin.
func (n *Node) Sockets(ctx context.Context, f SocketFilter) ([]Socket, error) {
	pods := map[string]string{}

	if f.Pods {
		var err error
		if pods, err = n.podNamespaces(ctx); err != nil {
			return nil, err
		}
	}

	m, err := first(n.machine().Netstat(ctx, f.request()))
	if err != nil {
		return nil, n.Fail("list sockets", err)
	}

	out := make([]Socket, 0, len(m.GetConnectrecord()))

	for _, r := range m.GetConnectrecord() {
		out = append(out, Socket{
			Protocol: r.GetL4Proto(), LocalIP: r.GetLocalip(), LocalPort: r.GetLocalport(), RemoteIP: r.GetRemoteip(),
			RemotePort: r.GetRemoteport(), State: socketState(r.GetState()), ReceiveQueue: r.GetRxqueue(), SendQueue: r.GetTxqueue(),
			UID: r.GetUid(), Inode: r.GetInode(), PID: r.GetProcess().GetPid(), Process: r.GetProcess().GetName(),
			Namespace: r.GetNetns(), Pod: pods[path.Base(r.GetNetns())],
		})
	}

	lists.Sort(out, func(a, b Socket) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Protocol, b.Protocol),
			compareAddressText(a.LocalIP, b.LocalIP), cmp.Compare(a.LocalPort, b.LocalPort),
			compareAddressText(a.RemoteIP, b.RemoteIP), cmp.Compare(a.RemotePort, b.RemotePort), cmp.Compare(a.Inode, b.Inode))
	})

	return out, nil
}

// podNamespaces maps network namespaces to the pods whose sandboxes own them.
func (n *Node) podNamespaces(ctx context.Context) (map[string]string, error) {
	containers, err := n.Containers(ctx, NamespaceCRI)
	if err != nil {
		return nil, err
	}

	out := map[string]string{}

	for _, c := range containers {
		if c.Sandbox && c.NetworkNamespace != "" {
			out[path.Base(c.NetworkNamespace)] = c.PodID
		}
	}

	return out, nil
}

// socketState spells every state as the kernel does; Talos omits the underscore in two.
func socketState(s machine.ConnectRecord_State) string {
	switch s { //nolint:exhaustive // the others only need lower case
	case machine.ConnectRecord_CLOSEWAIT:
		return "close_wait"
	case machine.ConnectRecord_LASTACK:
		return "last_ack"
	default:
		return strings.ToLower(s.String())
	}
}
