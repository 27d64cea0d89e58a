package network

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdKubeSpan(f *cmdutil.Factory) *cmdutil.Cmd {
	s := spec()
	s.Insecure = false // there are no peers in maintenance mode

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "kubespan", Aliases: []string{"ks"}, Short: "List the KubeSpan peers of each node",
		Long: "List the peers of each node with their endpoints, state and traffic. A node without KubeSpan has none.",
		Example: "  talosmate network kubespan -n worker-1\n" +
			"  talosmate network kubespan -A -o json --query '.items[] | select(.state != \"up\") | .node + \" \" + .label'",
		Spec: s,
	}, "KubeSpanPeerList", cmdutil.NodeList[talos.KubeSpanPeer]{
		Columns: []output.Column[talos.KubeSpanPeer]{
			{Header: "PEER", Value: func(p talos.KubeSpanPeer) string { return p.Label }},
			{Header: "STATE", State: true, Value: func(p talos.KubeSpanPeer) string { return p.State }},
			{Header: "ENDPOINT", Value: func(p talos.KubeSpanPeer) string { return p.Endpoint }},
			{Header: "RECEIVED", Value: func(p talos.KubeSpanPeer) string { return output.Bytes(p.ReceiveBytes) }},
			{Header: "SENT", Value: func(p talos.KubeSpanPeer) string { return output.Bytes(p.TransmitBytes) }},
			{Header: "LAST HANDSHAKE", Value: handshake},
			{Header: "ENDPOINTS", Wide: true, Value: func(p talos.KubeSpanPeer) string { return strings.Join(p.Endpoints, ",") }},
			{Header: "KUBESPAN ADDRESS", Wide: true, Value: func(p talos.KubeSpanPeer) string { return p.Address }},
			{Header: "PUBLIC KEY", Wide: true, Value: func(p talos.KubeSpanPeer) string { return p.PublicKey }},
		},
		Name:    func(p talos.KubeSpanPeer) string { return p.Label },
		Watched: true, Volatile: []string{"RECEIVED", "SENT", "LAST HANDSHAKE"},
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.KubeSpanPeer, error) {
		return n.KubeSpanPeers(ctx)
	})
}

func handshake(p talos.KubeSpanPeer) string {
	if p.LastHandshake == nil {
		return ""
	}

	return output.Time(*p.LastHandshake)
}
