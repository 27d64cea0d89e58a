package network

import (
	"context"
	"fmt"
	"strconv"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdNetstat(f *cmdutil.Factory) *cmdutil.Cmd {
	var filter talos.SocketFilter

	s := spec()
	s.Insecure = false // this is a call, not a resource

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "netstat", Aliases: []string{"ss", "sockets"}, Short: "List the sockets of each node",
		Long: "List TCP and UDP sockets, all of them unless flags choose. --process finds the process of each,\n" +
			"--kubernetes includes the network namespaces of pods.",
		Example: "  talosmate network netstat -n worker-1 --listening --process\n" +
			"  talosmate network netstat --controlplanes --tcp -o json --query '.items[] | select(.local_port == 2379) | .remote_ip'",
		Spec: s,
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVarP(&filter.Listening, "listening", "l", false, "only sockets that wait for peers")
			fs.BoolVar(&filter.Connected, "connected", false, "only sockets with a peer")
			fs.BoolVarP(&filter.TCP, "tcp", "t", false, "only TCP")
			fs.BoolVarP(&filter.UDP, "udp", "u", false, "only UDP")
			fs.BoolVarP(&filter.Process, "process", "p", false, "find the process of each socket")
			fs.Kubernetes(&filter.Pods, "the sockets of pods too")
			fs.Renamed("pods", cmdutil.KubernetesFlag)
		},
	}, "SocketList", cmdutil.NodeList[talos.Socket]{
		Columns: []output.Column[talos.Socket]{
			{Header: "PROTO", Value: func(s talos.Socket) string { return s.Protocol }},
			{Header: "LOCAL", Value: talos.Socket.Local},
			{Header: "REMOTE", Value: talos.Socket.Remote},
			{Header: "STATE", State: true, Value: func(s talos.Socket) string { return s.State }},
			{Header: "PROCESS", Value: process},
			{Header: "POD", Value: func(s talos.Socket) string { return s.Pod }},
			{Header: "RECV-Q", Wide: true, Value: func(s talos.Socket) string { return strconv.FormatUint(s.ReceiveQueue, 10) }},
			{Header: "SEND-Q", Wide: true, Value: func(s talos.Socket) string { return strconv.FormatUint(s.SendQueue, 10) }},
			{Header: "UID", Wide: true, Value: func(s talos.Socket) string { return strconv.FormatUint(uint64(s.UID), 10) }},
			{Header: "INODE", Wide: true, Value: func(s talos.Socket) string { return strconv.FormatUint(s.Inode, 10) }},
		},
		Name: func(s talos.Socket) string { return s.Protocol + " " + s.Local() + " " + s.Remote() },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Socket, error) {
		return n.Sockets(ctx, filter)
	})
}

func process(s talos.Socket) string {
	if s.PID == 0 {
		return ""
	}

	return fmt.Sprintf("%d/%s", s.PID, s.Process)
}
