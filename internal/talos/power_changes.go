package talos

import (
	"context"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// Shutdown asks the node to power off. Unless forced, the node first cordons and drains itself, if it is a Kubernetes
// member. Roles: operator, admin.
func (n *Node) Shutdown(ctx context.Context, force bool) error {
	_, err := n.machine().Shutdown(ctx, &machine.ShutdownRequest{Force: force})

	return n.Fail("shut down", err)
}

// Rollback makes the other boot slot the default and reboots; the server refuses when that slot is empty. Role: admin.
func (n *Node) Rollback(ctx context.Context) error {
	_, err := n.machine().Rollback(ctx, &machine.RollbackRequest{})

	return n.Fail("roll back", err)
}

// Wipe modes of a reset.
const (
	WipeAll        = "all"         // The system disk and the user disks named.
	WipeSystemDisk = "system-disk" // The system disk only.
	WipeUserDisks  = "user-disks"  // The user disks named, and no partition of the system disk.
)

// Reset are the options of a reset.
type Reset struct {
	Graceful     bool     // Cordon, drain and leave etcd first.
	Reboot       bool     // Reboot instead of powering off.
	Mode         string   // all, system-disk or user-disks.
	SystemLabels []string // Partitions of the system disk; to the server, none means the whole disk.
	WholeDisk    bool     // The whole system disk is to be wiped: without this, empty SystemLabels are not sent.
	UserDisks    []string // Device paths, with /dev/.
}

// Reset wipes the node. The answer comes before the work: if a graceful reset cannot leave etcd, only the node's log
// shows it, and the node is not wiped. Role: admin.
func (n *Node) Reset(ctx context.Context, r Reset) error {
	if r.Mode != WipeUserDisks && len(r.SystemLabels) == 0 && !r.WholeDisk {
		return errs.Usagef("a reset without partitions would wipe the whole system disk")
	}

	modes := map[string]machine.ResetRequest_WipeMode{
		WipeAll: machine.ResetRequest_ALL, WipeSystemDisk: machine.ResetRequest_SYSTEM_DISK, WipeUserDisks: machine.ResetRequest_USER_DISKS,
	}

	req := &machine.ResetRequest{Graceful: r.Graceful, Reboot: r.Reboot, Mode: modes[r.Mode], UserDisksToWipe: r.UserDisks}

	if !r.WholeDisk {
		req.SystemPartitionsToWipe = lists.Map(r.SystemLabels, func(label string) *machine.ResetPartitionSpec {
			return &machine.ResetPartitionSpec{Label: label, Wipe: true}
		})
	}

	_, err := n.machine().Reset(ctx, req)

	return n.Fail("reset", err)
}

// Reboot modes.
const (
	RebootDefault    = "default"
	RebootPowercycle = "powercycle"
	RebootForce      = "force"
)

// Reboot asks the node to reboot. Role: operator.
func (n *Node) Reboot(ctx context.Context, mode string) error {
	modes := map[string]machine.RebootRequest_Mode{
		RebootDefault: machine.RebootRequest_DEFAULT, RebootPowercycle: machine.RebootRequest_POWERCYCLE,
		RebootForce: machine.RebootRequest_FORCE,
	}

	_, err := n.machine().Reboot(ctx, &machine.RebootRequest{Mode: modes[mode]})

	return n.Fail("reboot", err)
}
