package etcd

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v2store"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// RecoveryFile is where an uploaded snapshot waits for the bootstrap.
func (m *Member) RecoveryFile() string { return filepath.Join(m.cfg.Dir, "recovery.snapshot") }

// Recover makes the member's data from its recovery file, as the only member of
// a new cluster: the database without its old membership, and a write-ahead log
// and raft snapshot that say that this member alone is the cluster.
func (m *Member) Recover(skipHashCheck bool) error {
	if err := verifyDatabase(m.RecoveryFile()); err != nil {
		return fmt.Errorf("error verifying snapshot: %w", err)
	}

	if err := m.restore(skipHashCheck); err != nil {
		return fmt.Errorf("error recovering from the snapshot: %w", err)
	}

	return os.Remove(m.RecoveryFile())
}

// verifyDatabase opens the file as etcd's status command does.
func verifyDatabase(file string) error {
	db, err := bolt.Open(file, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck

	return db.View(func(tx *bolt.Tx) error {
		var problems []error
		for err := range tx.Check() {
			problems = append(problems, err)
		}

		return errors.Join(problems...)
	})
}

func (m *Member) restore(skipHashCheck bool) error {
	if !m.Empty() {
		return fmt.Errorf("data-dir %q not empty or could not be read", m.DataDir())
	}

	snapDir := filepath.Join(m.DataDir(), "member", "snap")
	if err := os.MkdirAll(snapDir, 0o700); err != nil {
		return err
	}

	database := filepath.Join(snapDir, "db")
	if err := copyVerified(m.RecoveryFile(), database, skipHashCheck); err != nil {
		return errors.Join(err, os.RemoveAll(m.DataDir()))
	}

	peers, err := types.NewURLsMap(m.Initial())
	if err != nil {
		return err
	}

	logger := zap.NewNop()

	cluster, err := membership.NewClusterFromURLsMap(logger, clusterToken, peers)
	if err != nil {
		return err
	}

	store := v2store.New(etcdserver.StoreClusterPrefix, etcdserver.StoreKeysPrefix)

	be := backend.NewDefaultBackend(logger, database)
	members := schema.NewMembershipBackend(logger, be)

	if err := members.TrimMembershipFromBackend(); err != nil {
		be.Close() //nolint:errcheck

		return err
	}

	cluster.SetStore(store)
	cluster.SetBackend(members)

	for _, member := range cluster.Members() {
		cluster.AddMember(member, true)
	}

	hard, err := m.writeRaft(logger, cluster, store, snapDir)
	if err != nil {
		be.Close() //nolint:errcheck

		return err
	}

	cindex.UpdateConsistentIndexForce(be.BatchTx(), hard.Commit, hard.Term)

	return be.Close()
}

// writeRaft writes the log and the snapshot of a cluster of this member alone.
func (m *Member) writeRaft(logger *zap.Logger, cluster *membership.RaftCluster, store v2store.Store, snapDir string) (*raftpb.HardState, error) {
	self := cluster.MemberByName(m.Name())

	metadata, err := (&etcdserverpb.Metadata{NodeID: uint64(self.ID), ClusterID: uint64(cluster.ID())}).Marshal()
	if err != nil {
		return nil, err
	}

	log, err := wal.Create(logger, filepath.Join(m.DataDir(), "member", "wal"), metadata)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck

	described, err := json.Marshal(self)
	if err != nil {
		return nil, err
	}

	change, err := (&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode, NodeID: uint64(self.ID), Context: described}).Marshal()
	if err != nil {
		return nil, err
	}

	hard := raftpb.HardState{Term: 1, Vote: uint64(self.ID), Commit: 1}
	if err := log.Save(hard, []raftpb.Entry{{Type: raftpb.EntryConfChange, Term: 1, Index: 1, Data: change}}); err != nil {
		return nil, err
	}

	saved, err := store.Save()
	if err != nil {
		return nil, err
	}

	voters := raftpb.ConfState{Voters: []uint64{uint64(self.ID)}}

	err = snap.New(logger, snapDir).SaveSnap(raftpb.Snapshot{
		Data: saved, Metadata: raftpb.SnapshotMetadata{Index: hard.Commit, Term: hard.Term, ConfState: voters},
	})
	if err != nil {
		return nil, err
	}

	return &hard, log.SaveSnapshot(walpb.Snapshot{Index: hard.Commit, Term: hard.Term, ConfState: &voters})
}

// copyVerified copies a snapshot without its trailing hash, which is there when
// the size is not a whole number of disk sectors.
func copyVerified(from, to string, skipHashCheck bool) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck

	info, err := in.Stat()
	if err != nil {
		return err
	}

	size := info.Size()
	hashed := size%512 == sha256.Size

	if hashed {
		size -= sha256.Size
	} else if !skipHashCheck {
		return errors.New("snapshot missing hash but --skip-hash-check=false")
	}

	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}

	sum := sha256.New()

	if _, err := io.CopyN(io.MultiWriter(out, sum), in, size); err != nil {
		out.Close() //nolint:errcheck

		return err
	}

	if err := out.Close(); err != nil {
		return err
	}

	if !hashed || skipHashCheck {
		return nil
	}

	want, err := io.ReadAll(in)
	if err != nil {
		return err
	}

	if got := sum.Sum(nil); !bytes.Equal(want, got) {
		return fmt.Errorf("expected sha256 %v, got %v", want, got)
	}

	return nil
}

// Rename gives a member that has no data yet another name.
func (m *Member) Rename(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.server == nil {
		m.cfg.Name = name
	}
}
