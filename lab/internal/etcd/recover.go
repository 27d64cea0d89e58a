package etcd

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
)

// RecoveryFile is the path of an uploaded snapshot until the bootstrap.
func (m *Member) RecoveryFile() string { return filepath.Join(m.cfg.Dir, "recovery.snapshot") }

// Recover makes the member's data from its recovery file, as the only member of a new cluster, as machined does: with
// the library of `etcdutl snapshot status` and `etcdutl snapshot restore`.
func (m *Member) Recover(skipHashCheck bool) error {
	manager := snapshot.NewV3(m.logger())

	if _, err := manager.Status(m.RecoveryFile()); err != nil {
		return fmt.Errorf("error verifying snapshot: %w", err)
	}

	if err := manager.Restore(snapshot.RestoreConfig{
		SnapshotPath:        m.RecoveryFile(),
		Name:                m.Name(),
		OutputDataDir:       m.DataDir(),
		PeerURLs:            []string{m.PeerURL()},
		InitialCluster:      m.Initial(),
		InitialClusterToken: clusterToken,
		SkipHashCheck:       skipHashCheck,
	}); err != nil {
		return fmt.Errorf("error recovering from the snapshot: %w", err)
	}

	return os.Remove(m.RecoveryFile())
}

// Rename gives a member that has no data yet another name.
func (m *Member) Rename(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.server == nil {
		m.cfg.Name = name
	}
}
