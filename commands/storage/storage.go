// Package storage holds `talosmate storage`: volumes and what is found on block devices.
package storage

import (
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("storage", "Look at volumes, LVM, RAID and block devices, and remove what LVM and RAID made", nil, newCmdVolumes(f), newCmdDiscovered(f), newCmdLVM(f), newCmdRAID(f), newCmdUpkeep(f), newCmdRemove(f))
}

func spec() cmdutil.Spec {
	return cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers, Insecure: true}
}

// size leaves the cell of what has no size empty.
func size(bytes uint64) string {
	if bytes == 0 {
		return ""
	}

	return output.Bytes(bytes)
}

// kind is a kind as people read it.
func kind(word string) string { return strings.ReplaceAll(word, "_", " ") }
