package network

import (
	"context"
	"strconv"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdBGP(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "bgp", Short: "List the BGP sessions of each node, from Talos 1.14 on",
		Example: "  talosmate network bgp -A\n" +
			"  talosmate network bgp -A -o json --query '.items[] | select(.state != \"established\") | .node + \" \" + .peer'",
		Spec: spec(),
	}, "BGPPeerList", cmdutil.NodeList[talos.BGPPeer]{
		Columns: []output.Column[talos.BGPPeer]{
			{Header: "PEER", Value: func(p talos.BGPPeer) string { return p.Peer }},
			{Header: "ASN", Value: func(p talos.BGPPeer) string { return number(p.PeerASN) }},
			{Header: "STATE", State: true, Value: func(p talos.BGPPeer) string { return p.State }},
			{Header: "RECEIVED", Value: func(p talos.BGPPeer) string { return number(p.Received) }},
			{Header: "ACCEPTED", Value: func(p talos.BGPPeer) string { return number(p.Accepted) }},
			{Header: "ADVERTISED", Value: func(p talos.BGPPeer) string { return number(p.Advertised) }},
			{Header: "BFD", Value: func(p talos.BGPPeer) string { return p.BFDState }},
			{Header: "INSTANCE", Wide: true, Value: func(p talos.BGPPeer) string { return p.Instance }},
			{Header: "LOCAL ASN", Wide: true, Value: func(p talos.BGPPeer) string { return number(p.LocalASN) }},
		},
		Name:    func(p talos.BGPPeer) string { return p.Peer },
		Watched: true,
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.BGPPeer, error) {
		return n.BGPPeers(ctx)
	})
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
