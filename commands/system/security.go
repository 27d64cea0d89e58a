package system

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdSecurity(f *cmdutil.Factory) *cmdutil.Cmd {
	type row = talos.NodeSecurity

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "security", Short: "Show secure boot, signing keys and SELinux of each node",
		Example: "  talosmate system security\n" +
			"  talosmate system security -A -o json --query '.items[] | select(.secure_boot | not) | .hostname'",
		Spec: spec(),
	}, "SecurityList", cmdutil.NodeList[row]{
		PerNode: true,
		Columns: []output.Column[row]{
			{Header: "SECURE BOOT", Value: func(s row) string { return output.YesNo(s.SecureBoot) }},
			{Header: "UKI", Value: func(s row) string { return output.YesNo(s.BootedUKI) }},
			{Header: "SELINUX", Value: func(s row) string { return s.SELinux }},
			{Header: "FIPS", Value: func(s row) string { return s.FIPS }},
			{Header: "SIGNED MODULES", Value: func(s row) string { return output.YesNo(s.ModuleSignatures) }},
			{Header: "BOOT ENTRY", Value: func(s row) string { return s.BootEntry }},
			{Header: "UKI KEY", Wide: true, Value: func(s row) string { return s.UKIFingerprint }},
			{Header: "PCR KEY", Wide: true, Value: func(s row) string { return s.PCRFingerprint }},
		},
		Name: func(s row) string { return s.Node },
	}, one(func(n *talos.Node, ctx context.Context) (row, error) {
		state, err := n.Security(ctx)

		return row{SecurityState: state}, err
	}))
}
