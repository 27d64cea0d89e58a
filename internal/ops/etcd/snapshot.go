package etcd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Snapshotter streams a member's snapshot; *talos.Node implements it.
type Snapshotter interface {
	EtcdSnapshot(ctx context.Context, fn func(chunk []byte) error) error
}

// Snapshot is a snapshot file and its content.
type Snapshot struct {
	Node            string   `json:"node,omitempty"`             // The node whose member it was taken from; absent for an existing file.
	Hostname        string   `json:"hostname,omitempty"`         // That node's hostname, where known.
	Leader          bool     `json:"leader"`                     // Whether that member was the leader; false for an existing file.
	Path            string   `json:"path"`                       // The file, - for stdout.
	SizeBytes       int64    `json:"size_bytes"`                 // Its size, the trailing hash included.
	SHA256          string   `json:"sha256"`                     // SHA-256 of the whole file, hex, as sha256sum prints it.
	HashVerified    bool     `json:"hash_verified"`              // Whether the SHA-256 that etcd appends to the database matched.
	Hash            string   `json:"hash"`                       // CRC-32C of the content, hex, as etcdutl snapshot status prints it; empty for stdout.
	Revision        int64    `json:"revision"`                   // The last revision in it; 0 for stdout.
	TotalKeys       int      `json:"total_keys"`                 // The keys that exist at that revision; 0 for stdout.
	Revisions       int      `json:"revisions"`                  // The revisions that are kept, deletions included; 0 for stdout.
	StorageVersion  string   `json:"storage_version"`            // The version of the storage schema, empty when none is written.
	DurationSeconds float64  `json:"duration_seconds,omitempty"` // How long taking and verifying it took.
	Removed         []string `json:"removed,omitempty"`          // The older snapshots that --retain removed.
}

// ChooseMember picks the member to take a snapshot from: of the healthy voting followers without an alarm, the one that
// is least behind; without a follower, the leader.
func (v View) ChooseMember() (talos.Target, error) {
	type candidate struct {
		target talos.Target
		status talos.EtcdStatus
		alarm  bool
	}

	var (
		all  []candidate
		last *Answer // Of the members without a leader, the one that has most.
	)

	for i, a := range v.Answers {
		if a.Status == nil || a.Status.Learner {
			continue
		}

		if !hasLeader(*a.Status) {
			if last == nil || a.Status.RaftAppliedIndex > last.Status.RaftAppliedIndex {
				last = &v.Answers[i]
			}

			continue
		}

		corrupt := slices.ContainsFunc(v.Alarms(), func(al talos.EtcdAlarm) bool { return al.ID == a.Status.ID && al.Alarm == AlarmCorrupt })
		if !corrupt {
			all = append(all, candidate{a.Target, *a.Status, len(a.Status.Errors) > 0})
		}
	}

	if len(all) == 0 {
		err := errs.New(errs.Failed, "no healthy etcd member to take a snapshot from").WithHint("talosmate etcd status")
		if last != nil { // etcd's Maintenance.Snapshot needs no leader
			err = err.WithHint("no member has a leader; what %s has, which may lack the last writes, is saved by: talosmate etcd snapshot FILE -n %s",
				last.Target.Name(), last.Target.Name())
		}

		return talos.Target{}, v.nobody(err, PartStatus)
	}

	best := slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(compareBool(a.status.ID == v.Leader, b.status.ID == v.Leader), compareBool(a.alarm, b.alarm),
			cmp.Compare(v.Lag(a.status), v.Lag(b.status)), target.CompareAddresses(a.target.Address, b.target.Address))
	})

	return best.target, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Stream copies a snapshot to w and verifies the trailing hash while copying. progress receives the bytes so far.
func Stream(ctx context.Context, s Snapshotter, w io.Writer, progress func(int64)) (Snapshot, error) {
	t := newTrailer()

	err := s.EtcdSnapshot(ctx, func(chunk []byte) error {
		if _, err := w.Write(chunk); err != nil {
			return err // it names the file, or the output
		}

		t.write(chunk)
		progress(t.size)

		return nil
	})
	if err == nil {
		if err = t.verify(); err != nil {
			err = errs.New(errs.Failed, "cannot use the snapshot: %w", err).WithKind(errs.KindInvalid)
		}
	} else if cause := context.Cause(ctx); cause != nil {
		err = cause
	}

	return Snapshot{SizeBytes: t.size, SHA256: t.sum(), HashVerified: err == nil}, err
}

// Save streams a snapshot into a file that gets its name only when it is complete, verified, opened and counted.
func Save(ctx context.Context, s Snapshotter, path string, progress func(int64)) (Snapshot, error) {
	var (
		out Snapshot
		db  Database
	)

	err := fsutil.WriteVerified(path, 0o600, func(w io.Writer) error {
		var err error
		out, err = Stream(ctx, s, w, progress)

		return err
	}, func(tmp string) error {
		var err error
		db, err = ReadDatabase(ctx, tmp, nil)

		return err
	})
	if err != nil {
		return Snapshot{}, err
	}

	out.Path = path
	out.describe(db)

	return out, nil
}

func (s *Snapshot) describe(db Database) {
	s.Hash, s.Revision, s.TotalKeys, s.Revisions, s.StorageVersion = db.Hash, db.Revision, db.TotalKeys, db.Revisions, db.StorageVersion
}

// Inspect verifies a snapshot file: its trailing hash, its pages, its content. A file without a trailing hash (a copy
// of member/snap/db) is read too, with HashVerified false. An invalid file is an error with exit code 3; a file that
// cannot be read is a usage error.
func Inspect(ctx context.Context, path string) (Snapshot, error) {
	out, _, err := InspectEntries(ctx, path, nil)

	return out, err
}

// InspectEntries is Inspect which also returns what the database says, and passes its entries to visit: see ReadDatabase.
func InspectEntries(ctx context.Context, path string, visit func(Entry) error) (Snapshot, Database, error) {
	f, err := os.Open(path) //nolint:gosec // G304: a snapshot that the user names or that was just written
	if err != nil {
		return Snapshot{}, Database{}, errs.Usagef("cannot read the snapshot: %w", err)
	}
	defer f.Close() //nolint:errcheck // it is only read

	t := newTrailer()
	if _, err = io.Copy(t, f); err != nil {
		return Snapshot{}, Database{}, errs.Usagef("cannot read the snapshot %s: %w", path, err)
	}

	out := Snapshot{Path: path, SizeBytes: t.size, SHA256: t.sum()}

	damaged := func(err error) error {
		return errs.New(errs.Negative, "the snapshot %s is not usable: %w", path, err).WithKind(errs.KindInvalid)
	}

	if t.present() {
		if err = t.verify(); err != nil {
			return out, Database{}, damaged(err)
		}

		out.HashVerified = true
	}

	db, err := ReadDatabase(ctx, path, visit)
	if err != nil && ctx.Err() != nil {
		return out, db, context.Cause(ctx)
	}

	if err != nil {
		return out, db, damaged(err)
	}

	out.describe(db)

	return out, db, nil
}

// ErrHash is the error about a snapshot whose content differs from what etcd streamed.
var ErrHash = errors.New("it is damaged: its SHA-256 differs from the one that etcd appended")

// trailer splits a snapshot stream into the database and the SHA-256 at its end. A database consists of whole pages, so
// a size of 32 beyond a multiple of 512 means that there is a hash (etcdutl's rule).
type trailer struct {
	whole, inner hash.Hash
	held         []byte // The last 32 bytes so far, not yet in inner.
	size         int64
}

const pageUnit = 512

func newTrailer() *trailer { return &trailer{whole: sha256.New(), inner: sha256.New()} }

// Write implements io.Writer.
func (t *trailer) Write(p []byte) (int, error) {
	t.write(p)

	return len(p), nil
}

func (t *trailer) write(p []byte) {
	t.whole.Write(p)
	t.size += int64(len(p))

	if len(p) >= sha256.Size {
		t.inner.Write(t.held)
		t.inner.Write(p[:len(p)-sha256.Size])
		t.held = append(t.held[:0], p[len(p)-sha256.Size:]...)

		return
	}

	t.held = append(t.held, p...)

	if extra := len(t.held) - sha256.Size; extra > 0 {
		t.inner.Write(t.held[:extra])
		t.held = append(t.held[:0], t.held[extra:]...)
	}
}

func (t *trailer) present() bool { return t.size%pageUnit == sha256.Size }

func (t *trailer) sum() string { return hex.EncodeToString(t.whole.Sum(nil)) }

func (t *trailer) verify() error {
	switch {
	case t.size == 0:
		return errors.New("it is empty")
	case !t.present():
		return fmt.Errorf("it is incomplete: %d bytes are not a database with its hash", t.size)
	case !slices.Equal(t.inner.Sum(nil), t.held):
		return ErrHash
	default:
		return nil
	}
}

// stampLayout makes names that sort by time.
const stampLayout = "20060102T150405.000Z"

// FileName names a snapshot in a directory: etcd-CONTEXT-TIME.db.
func FileName(cluster string, at time.Time) string {
	return filePrefix(cluster) + at.UTC().Format(stampLayout) + ".db"
}

func filePrefix(cluster string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		default:
			return '_'
		}
	}, cluster)

	return "etcd-" + safe + "-"
}

// Retain removes the oldest snapshots of a cluster in a directory until keep are left, and returns what it removed.
// Only files whose names have the form of FileName are considered.
func Retain(dir, cluster string, keep int) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errs.New(errs.Failed, "cannot look for older snapshots: %w", err)
	}

	var ours []string

	for _, e := range entries {
		stamp, named := strings.CutPrefix(e.Name(), filePrefix(cluster))
		stamp, db := strings.CutSuffix(stamp, ".db")

		if _, err := time.Parse(stampLayout, stamp); named && db && err == nil && e.Type().IsRegular() {
			ours = append(ours, e.Name())
		}
	}

	slices.Sort(ours)

	var (
		removed []string
		all     []error
	)

	for _, name := range ours[:max(0, len(ours)-keep)] {
		path := filepath.Join(dir, name)
		if err = os.Remove(path); err != nil {
			all = append(all, errs.New(errs.Failed, "cannot remove the old snapshot: %w", err))

			continue
		}

		removed = append(removed, path)
	}

	return removed, errors.Join(all...)
}
