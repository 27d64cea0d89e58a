package etcd

import (
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdSnapshotStatus(f *cmdutil.Factory) *cobra.Command {
	spec := cmdutil.Spec{
		Kind: cmdutil.Read, Roles: []string{}, Schema: "EtcdSnapshotStatus", Offline: true, Question: true,
		Document: output.Single[etcd.Snapshot]{},
	}

	cmd := &cobra.Command{
		Use: "snapshot-status FILE", Short: "Verify a snapshot file and show what is in it",
		Long: "Verify a snapshot file: its trailing hash, its pages, every entry. The exit code is 3 when it is not\n" +
			"usable. A copy of member/snap/db has no hash; it is read all the same, with hash_verified false.",
		Example: "  talosmate etcd snapshot-status backup.db\n" +
			"  talosmate etcd snapshot-status backup.db -o json --query .result.revision",
		Args: cmdutil.ExactArgs("FILE"), // a file is wanted, so that the shell may complete files
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			snap, err := etcd.Inspect(c.Context(), c.Args[0])
			if err != nil {
				return err
			}

			if !snap.HashVerified {
				c.Warn("%s has no trailing hash: it is a copy of a database; recovering from it needs --recover-skip-hash-check", snap.Path)
			}

			return cmdutil.PrintResult(c, snap, nil, snap.SHA256, showSnapshot)
		}),
	}

	f.Declare(cmd, spec)

	return cmd
}
