package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/wipe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdWipe(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		req    wipe.Request
		method string
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "wipe DEVICE…", Short: "Wipe disks or partitions of a node",
		Long: "Wipe disks or partitions of a node, named with or without /dev/. The disk that Talos is installed on,\n" +
			"devices that a volume uses and members of RAID or LVM are refused (TM150; overriding it skips the node's\n" +
			"own checks too, and a device that is mounted is refused by the node all the same). All devices are\n" +
			"checked before one is touched, and read again afterwards.",
		Example: "  talosmate node wipe sdb -n worker-1\n" +
			"  talosmate node wipe /dev/sdb1 /dev/sdc -n worker-1 --method zeroes --yes -o json --query '.items[].status'",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins(), OneNode: true, Insecure: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.Choice(&method, "method", talos.WipeFast, "how to wipe", talos.WipeFast, talos.WipeZeroes)
			fs.DurationVar(&req.Limit, "wait-timeout", 0, "how long to wait for the node's answer (0 as long as the node is there: zeroes can take hours)")
			fs.NotNegative("wait-timeout")
			fs.BoolVar(&req.DropPartition, "drop-partition", false, "take the partition out of the partition table too")
		},
		Complete: cmdutil.CompleteFrom(deviceNames),
	}, cmdutil.ListOf[wipe.Device]("NodeWipeList"), func(c *cmdutil.Call) error {
		req.Devices, req.Zeroes = c.Args, method == talos.WipeZeroes

		return runWipe(c, req)
	})
}

func deviceNames(ctx context.Context, n *talos.Node) ([]string, error) {
	devices, err := n.BlockDevices(ctx)

	return lists.Map(devices, func(d talos.BlockDevice) string { return d.Name }), err
}

func runWipe(c *cmdutil.Call, req wipe.Request) error {
	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	target := targets.Nodes[0]
	n := cluster.ChangingNode(target)

	devices, err := wipe.Plan(c.Context(), n, target, req)
	if err != nil {
		return err
	}

	if err = wipe.Gate(devices, c.Overrides); err == nil && !c.DryRun {
		if err = c.ConfirmTargets(fmt.Sprintf("wiping %s on %s", describeDevices(devices), target.Name())); err != nil {
			return err
		}

		if err = c.Begin(); err == nil {
			err = wipe.Run(c.Context(), n, devices, target.Name(), req.Limit)
		}
	}

	return cmdutil.PrintList(c, devices, err, wipeColumns(), func(d wipe.Device) string { return d.Device })
}

func describeDevices(devices []wipe.Device) string {
	all := make([]string, len(devices))

	for i, d := range devices {
		facts := []string{output.Bytes(d.SizeBytes)}

		for _, f := range []string{d.Model, d.Serial} {
			if f != "" {
				facts = append(facts, output.Line(f))
			}
		}

		if d.Contents != "" {
			facts = append(facts, "holding "+output.Line(d.Contents))
		}

		all[i] = fmt.Sprintf("%s (%s)", d.Device, strings.Join(facts, ", "))
	}

	return strings.Join(all, ", ")
}

func wipeColumns() []output.Column[wipe.Device] {
	return []output.Column[wipe.Device]{
		{Header: "NODE", Value: wipe.Device.NodeName},
		{Header: "DEVICE", Value: func(d wipe.Device) string { return d.Device }},
		{Header: "TYPE", Value: func(d wipe.Device) string { return d.Type }},
		{Header: "SIZE", Value: func(d wipe.Device) string { return output.Bytes(d.SizeBytes) }},
		{Header: "CONTENTS", Value: func(d wipe.Device) string { return d.Contents }},
		{Header: "STATUS", State: true, Value: func(d wipe.Device) string { return string(d.Status) }},
		{Header: "USED BY", Value: func(d wipe.Device) string { return strings.Join(d.UsedBy, ", ") }},
		{Header: "MODEL", Wide: true, Value: func(d wipe.Device) string { return d.Model }},
		{Header: "SERIAL", Wide: true, Value: func(d wipe.Device) string { return d.Serial }},
		{Header: "METHOD", Wide: true, Value: func(d wipe.Device) string { return d.Method }},
	}
}
