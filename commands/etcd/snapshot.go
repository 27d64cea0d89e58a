package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdSnapshot(f *cmdutil.Factory) *cmdutil.Cmd {
	retain := 0

	return cmdutil.New(f, cmdutil.Command{
		Use: "snapshot FILE|DIRECTORY|-", Short: "Take a verified snapshot of etcd",
		Long: "Take a snapshot of etcd from a healthy follower, or from the member of the node named with -n.\n" +
			"The file appears only when it is complete: streamed to a temporary file, synced, its hash verified, opened\n" +
			"and counted. In a directory it is named etcd-CONTEXT-TIME.db, and --retain N removes all but the N newest\n" +
			"of that form. With - the bytes go to stdout and only the hash is verified.",
		Example: "  talosmate etcd snapshot backup.db\n" +
			"  talosmate etcd snapshot /var/backups/ --retain 5 -o json --query .result.path",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: append(cmdutil.Operators(), cmdutil.RoleEtcdBackup), Default: target.DefaultControlPlanes},
		Flags: func(fs *cmdutil.Flags) {
			fs.IntVar(&retain, "retain", 0, "in a directory: keep only the `N` newest snapshots of this context")
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[etcd.Snapshot]("EtcdSnapshot"), func(c *cmdutil.Call) error { return runSnapshot(c, retain) })
}

func runSnapshot(c *cmdutil.Call, retain int) error {
	started := c.Printer.Now()
	path := c.Args[0]
	dir := isDirectory(path)

	switch {
	case retain < 0 || (retain > 0 && !dir):
		return errs.Usagef("--retain wants a number above zero and a directory, and %s is none", path)
	case path == "-" && c.IO.OutTTY:
		return errs.Usagef("a snapshot is binary and stdout is a terminal").WithHint("name a file, or redirect stdout")
	}

	target, status, err := snapshotSource(c)
	if err != nil {
		return err
	}

	if dir {
		path = filepath.Join(path, etcd.FileName(c.Printer.Context, started))
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	node := cluster.Node(target)
	report := func(n int64) {
		c.Progress().Emit(progress.Event{
			Time: c.Printer.Now(), Node: target.Name(), Stage: "snapshot", Message: "streaming", Current: n, Total: max(n, status.DBSizeBytes),
		})
	}

	var snap etcd.Snapshot

	if path == "-" {
		_, err = etcd.Stream(c.Context(), node, c.Bytes(), report)

		return brokenStream(err)
	}

	if snap, err = etcd.Save(c.Context(), node, path, report); err != nil {
		return brokenStream(err)
	}

	snap.Node, snap.Hostname, snap.Leader = target.Address, target.Hostname, status.Leader

	if retain > 0 {
		snap.Removed, err = etcd.Retain(filepath.Dir(path), c.Printer.Context, retain)
	}

	snap.DurationSeconds = c.Printer.Now().Sub(started).Round(time.Millisecond).Seconds()

	return cmdutil.PrintResult(c, snap, err, snap.Path, showSnapshot)
}

// snapshotSource is the node named with -n, else the best member there is.
func snapshotSource(c *cmdutil.Call) (talos.Target, talos.EtcdStatus, error) {
	v, _, err := viewOf(c, etcd.StatusTimeout)
	if err != nil {
		return talos.Target{}, talos.EtcdStatus{}, err
	}

	var target talos.Target

	switch sel := c.Selection(); {
	case len(sel.Nodes) > 1:
		return target, talos.EtcdStatus{}, errs.Usagef("a snapshot is taken from one node, and -n names %d", len(sel.Nodes))
	case len(sel.Nodes) == 1:
		target, err = v.Answers[0].Target, v.Err(false, etcd.PartStatus)
	default:
		target, err = v.ChooseMember()
	}

	if m, ok := v.MemberOn(target); ok && v.Status(m.ID) != nil {
		return target, *v.Status(m.ID), err
	}

	return target, talos.EtcdStatus{}, err
}

// brokenStream gives a stream that broke off the exit code of a failure: the node was reached, and what it
// sent is not a snapshot.
func brokenStream(err error) error {
	var typed *errs.Error
	if errors.As(err, &typed) && (typed.Exit == errs.Unreachable || typed.Exit == errs.Timeout) && typed.Kind != errs.KindPermissionDenied {
		failed := *typed
		failed.Exit = errs.Failed

		return &failed
	}

	return err
}

func isDirectory(path string) bool {
	if path != "" && os.IsPathSeparator(path[len(path)-1]) {
		return true
	}

	info, err := os.Stat(path)

	return err == nil && info.IsDir()
}

func showSnapshot(w io.Writer, s etcd.Snapshot) error {
	verified := "verified"
	if !s.HashVerified {
		verified = "none in the file, nothing to verify"
	}

	source := ""
	if s.Node != "" {
		source = fmt.Sprintf("Node:       %s\n", cmp.Or(s.Hostname, s.Node))
	}

	_, err := fmt.Fprintf(w, "%sFile:       %s\nSize:       %s (%d bytes)\nHash:       %s\nSHA-256:    %s\nCRC:        %s\nRevision:   %d\nKeys:       %d (%d revisions)\nStorage:    %s\n",
		source, output.Line(s.Path), output.Bytes(s.SizeBytes), s.SizeBytes, verified, s.SHA256, s.Hash, s.Revision, s.TotalKeys, s.Revisions,
		output.Cell(s.StorageVersion))

	for _, old := range s.Removed {
		fmt.Fprintf(w, "Removed:    %s\n", output.Line(old))
	}

	return err
}
