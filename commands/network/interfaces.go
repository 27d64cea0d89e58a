package network

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdInterfaces(f *cmdutil.Factory) *cmdutil.Cmd {
	var linkLocal bool

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "interfaces", Aliases: []string{"interface", "links", "link"}, Short: "List the network links of each node",
		Long: "List the network links of each node with their addresses, and what makes a bond, bridge, VLAN or\n" +
			"WireGuard link what it is. Keys of WireGuard are never shown but the public ones.",
		Example: "  talosmate network interfaces -n worker-1\n" +
			"  talosmate network interfaces -A -o json --query '.items[] | select(.bond) | .name + \" \" + .bond.mode'",
		Spec:  spec(),
		Flags: func(fs *cmdutil.Flags) { linkLocalFlag(fs, &linkLocal) },
	}, "InterfaceList", cmdutil.NodeList[talos.Interface]{
		Columns: []output.Column[talos.Interface]{
			{Header: "LINK", Value: func(i talos.Interface) string { return i.Name }},
			{Header: "KIND", Value: func(i talos.Interface) string { return i.Kind }},
			{Header: "STATE", State: true, Value: func(i talos.Interface) string { return i.State }},
			{Header: "MTU", Value: func(i talos.Interface) string { return strconv.Itoa(int(i.MTU)) }},
			{Header: "HARDWARE", Value: func(i talos.Interface) string { return i.HardwareAddr }},
			{Header: "ADDRESSES", Value: func(i talos.Interface) string { return strings.Join(i.Addresses, ",") }},
			{Header: "FACTS", Value: facts},
			{Header: "SPEED", Wide: true, Value: speed},
			{Header: "TYPE", Wide: true, Value: func(i talos.Interface) string { return i.Type }},
			{Header: "DRIVER", Wide: true, Value: func(i talos.Interface) string { return i.Driver }},
			{Header: "BUS PATH", Wide: true, Value: func(i talos.Interface) string { return i.BusPath }},
		},
		Name: func(i talos.Interface) string { return i.Name },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Interface, error) {
		return n.Interfaces(ctx, linkLocal)
	})
}

// facts says in one cell what a virtual link is.
func facts(i talos.Interface) string {
	var out []string

	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	switch {
	case i.Bond != nil:
		add("mode=%s", i.Bond.Mode)
	case i.Bridge != nil:
		add("stp=%s", output.YesNo(i.Bridge.STP))
	case i.VLAN != nil:
		add("vlan=%d", i.VLAN.ID)
	case i.WireGuard != nil:
		add("port=%d peers=%d", i.WireGuard.ListenPort, len(i.WireGuard.Peers))
	}

	if i.Parent != "" {
		add("on=%s", i.Parent)
	}

	if len(i.Members) > 0 {
		add("links=%s", strings.Join(i.Members, ","))
	}

	if i.Master != "" {
		add("in=%s", i.Master)
	}

	return strings.Join(out, " ")
}

func speed(i talos.Interface) string {
	if i.SpeedBits == 0 {
		return ""
	}

	return humanize.SIWithDigits(float64(i.SpeedBits), 1, "bit/s")
}
