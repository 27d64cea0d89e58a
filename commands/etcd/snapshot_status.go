package etcd

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/etcd"
)

func newCmdSnapshotStatus(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "snapshot-status FILE", Short: "Verify a snapshot file and show what is in it",
		Long: "Verify a snapshot file: its trailing hash, its pages, every entry. The exit code is 3 when it is not\n" +
			"usable. A copy of member/snap/db has no hash; it is read all the same, with hash_verified false.",
		Example: "  talosmate etcd snapshot-status backup.db\n" +
			"  talosmate etcd snapshot-status backup.db -o json --query .result.revision",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: []string{}, Offline: true, Question: true},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[etcd.Snapshot]("EtcdSnapshotStatus"), func(c *cmdutil.Call) error {
		snap, err := etcd.Inspect(c.Context(), c.Args[0])
		if err != nil {
			return err
		}

		if !snap.HashVerified {
			c.Warn("%s has no trailing hash: it is a copy of a database; recovering from it needs --recover-skip-hash-check", snap.Path)
		}

		return cmdutil.PrintResult(c, snap, nil, snap.SHA256, showSnapshot)
	})
}
