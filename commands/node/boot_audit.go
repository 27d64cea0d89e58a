package node

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdBootAudit(f *cmdutil.Factory) *cmdutil.Cmd {
	type row = talos.BootAudit

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "boot-audit", Short: "Show what proves that nodes boot through their firmware",
		Long: "Talos reboots through kexec, past the firmware and the boot loader: a node that would not boot after a power\n" +
			"cut can look healthy for months. For each node this shows the entry that the boot loader would start, how the\n" +
			"present boot came up, and what proves that the version that runs boots: firmware, kexec alone, or unproven\n" +
			"where it cannot be known. The kernel's files and the EFI variables need os:admin.",
		Example: "  talosmate node boot-audit\n" +
			"  talosmate node boot-audit -A -o json --query '.items[] | select(.proof != \"firmware\") | .hostname'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
	}, "BootAuditList", cmdutil.NodeList[row]{
		PerNode: true,
		Columns: []output.Column[row]{
			{Header: "VERSION", Value: func(b row) string { return b.Version }},
			{Header: "LOADER", Value: func(b row) string { return b.BootLoader }},
			{Header: "RUNS", Drop: 1, Value: func(b row) string { return b.BootedEntry }},
			{Header: "NEXT", Value: func(b row) string { return b.NextEntry }},
			{Header: "CAME UP BY", Value: func(b row) string { return b.Via }},
			{Header: "PROVED BY", Value: func(b row) string { return b.Proof }},
			{Header: "EVIDENCE", Wide: true, Value: func(b row) string { return strings.Join(b.Evidence, "; ") }},
		},
		Name: func(b row) string { return b.Node },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]row, error) {
		audit, err := n.BootAudit(ctx)

		return []row{audit}, err
	})
}
