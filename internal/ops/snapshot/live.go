package snapshot

import (
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// Live is how a snapshot compares with the cluster as it is now.
type Live struct {
	SameCluster     string  `json:"same_cluster"`               // yes if a member of the snapshot is one of the cluster, no if none is (another cluster, or it was recovered since), unknown.
	SnapshotIndex   uint64  `json:"snapshot_index,omitempty"`   // The raft index up to which the snapshot has everything.
	Index           uint64  `json:"index,omitempty"`            // The highest raft index that a member has applied; absent where none answered.
	BehindEntries   int64   `json:"behind_entries,omitempty"`   // How many entries of raft the snapshot lacks; absent for another cluster.
	Revision        int64   `json:"revision,omitempty"`         // The cluster's revision, from Kubernetes; absent where it did not answer.
	BehindRevisions int64   `json:"behind_revisions,omitempty"` // How many revisions the snapshot lacks; negative if the cluster has less than the snapshot.
	AgeSeconds      float64 `json:"age_seconds,omitempty"`      // How long ago the snapshot's newest object was created.
}

// Answers of SameCluster.
const (
	sameYes     = "yes"
	sameNo      = "no"
	sameUnknown = "unknown"
)

// Compare notes how the snapshot compares with the cluster. revision is the cluster's present one, 0 if it is not known:
// a snapshot is needed most when the cluster is down.
func (r *Report) Compare(v etcd.View, revision int64, now time.Time) {
	l := &Live{SameCluster: sameUnknown, SnapshotIndex: r.applied}

	for _, a := range v.Answers {
		if a.Status != nil {
			l.Index = max(l.Index, a.Status.RaftAppliedIndex)
		}

		if len(a.Members) > 0 && len(r.Members) > 0 && l.SameCluster != sameYes {
			l.SameCluster = sameNo
			ids := lists.Map(a.Members, func(m talos.EtcdMember) string { return m.ID })

			if slices.ContainsFunc(r.Members, func(s etcd.Seat) bool { return slices.Contains(ids, s.ID) }) {
				l.SameCluster = sameYes
			}
		}
	}

	if l.SameCluster == sameYes && l.Index > 0 && r.applied > 0 {
		l.BehindEntries = int64(l.Index) - int64(r.applied) //nolint:gosec // G115: raft counts from one
	}

	if revision > 0 && r.Revision > 0 {
		l.Revision, l.BehindRevisions = revision, revision-r.Revision
	}

	if r.Contents != nil && r.Contents.Newest != nil {
		l.AgeSeconds = now.Sub(*r.Contents.Newest).Round(time.Second).Seconds()
	}

	r.Live = l
}
