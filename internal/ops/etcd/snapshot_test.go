package etcd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// database writes an etcd database of n keys, of which every tenth is written twice and every hundredth is
// deleted, and returns the file with its hash behind it.
func database(t *testing.T, n, valueSize int) []byte {
	t.Helper()

	path := filepath.Join(t.TempDir(), "db")

	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}

	revision := int64(1)

	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}

		keys, err := tx.CreateBucket([]byte("key"))
		if err != nil {
			return err
		}

		put := func(key string, deleted bool) error {
			revision++
			k := binary.BigEndian.AppendUint64(nil, uint64(revision))
			k = append(k, '_')
			k = binary.BigEndian.AppendUint64(k, 0)

			v := protowire.AppendTag(nil, 1, protowire.BytesType)
			v = protowire.AppendBytes(v, []byte(key))

			if deleted {
				return keys.Put(append(k, 't'), v)
			}

			v = protowire.AppendTag(v, 2, protowire.VarintType)
			v = protowire.AppendVarint(v, uint64(revision))
			v = protowire.AppendTag(v, 5, protowire.BytesType)

			return keys.Put(k, protowire.AppendBytes(v, bytes.Repeat([]byte("x"), valueSize)))
		}

		for i := range n {
			all := []error{put(fmt.Sprintf("/registry/%d", i), false)}
			if i%10 == 0 {
				all = append(all, put(fmt.Sprintf("/registry/%d", i), false))
			}

			if i%100 == 0 {
				all = append(all, put(fmt.Sprintf("/registry/%d", i), true))
			}

			if err := errors.Join(all...); err != nil {
				return err
			}
		}

		return meta.Put([]byte("storageVersion"), []byte("3.6.0"))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	sum := sha256.Sum256(content)

	return append(content, sum[:]...)
}

// stream sends content in chunks and breaks off after cut bytes.
type stream struct {
	content []byte
	chunk   int
	cut     int // -1 for not at all
	silent  bool
}

var errCut = errors.New("rpc error: code = Unavailable desc = error reading from server: EOF")

func (s stream) EtcdSnapshot(ctx context.Context, fn func([]byte) error) error {
	content := s.content
	if s.cut >= 0 {
		content = content[:s.cut]
	}

	for part := range slices.Chunk(content, s.chunk) {
		if err := fn(part); err != nil {
			return err
		}
	}

	if s.silent {
		<-ctx.Done()

		return ctx.Err()
	}

	if s.cut >= 0 {
		return errCut
	}

	return nil
}

func quiet(int64) {}

func TestSave(t *testing.T) {
	t.Parallel()

	content := database(t, 1000, 20)
	dir := t.TempDir()

	for _, chunk := range []int{1 << 20, 4096, 1000, 33, 31} {
		path := filepath.Join(dir, fmt.Sprint(chunk))

		got, err := etcd.Save(t.Context(), stream{content, chunk, -1, false}, path, quiet)
		if err != nil {
			t.Fatalf("chunks of %d: %v", chunk, err)
		}

		sum := sha256.Sum256(content)
		want := etcd.Snapshot{
			Path: path, SizeBytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), HashVerified: true, Hash: got.Hash,
			Revision: 1111, TotalKeys: 990, Revisions: 1110, StorageVersion: "3.6.0",
		}

		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("chunks of %d:\n got %+v\nwant %+v", chunk, got, want)
		}

		written, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(written, content) {
			t.Errorf("the file is not what was sent (%v)", err)
		}

		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}

		again, err := etcd.Inspect(t.Context(), path)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("inspected %+v, %v", again, err)
		}
	}
}

// A file larger than a window is read in several, and counted once.
func TestSaveLarge(t *testing.T) {
	t.Parallel()

	content := database(t, 3000, 6000)

	got, err := etcd.Save(t.Context(), stream{content, 1 << 20, -1, false}, filepath.Join(t.TempDir(), "db"), quiet)
	if err != nil || got.Revisions != 3330 || got.TotalKeys != 2970 || len(content) < 3*(4<<20) {
		t.Errorf("%d bytes: %+v, %v", len(content), got, err)
	}
}

// Cut anywhere, with an error or without one, nothing is left.
func TestSaveCut(t *testing.T) {
	t.Parallel()

	content := database(t, 100, 20)
	dir := t.TempDir()
	path := filepath.Join(dir, "db")

	for cut := 0; cut < len(content); cut += 997 {
		if _, err := etcd.Save(t.Context(), stream{content, 4096, cut, false}, path, quiet); !errors.Is(err, errCut) {
			t.Errorf("cut at %d: %v", cut, err)
		}

		_, err := etcd.Save(t.Context(), stream{content[:cut], 4096, -1, false}, path, quiet)
		if code := errs.ExitCode(err); code != errs.Failed {
			t.Errorf("ended early at %d: code %d, %v", cut, code, err)
		}
	}

	for _, end := range []int{len(content) - 1, len(content) - 32, len(content) - 512} {
		if _, err := etcd.Save(t.Context(), stream{content[:end], 4096, -1, false}, path, quiet); errs.ExitCode(err) != errs.Failed {
			t.Errorf("ended at %d: %v", end, err)
		}
	}

	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1

	if _, err := etcd.Save(t.Context(), stream{flipped, 4096, -1, false}, path, quiet); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a flipped bit: %v", err)
	}

	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStreamInterrupted(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	interrupted := errs.New(errs.Interrupted, "interrupted")

	_, err := etcd.Save(ctx, stream{database(t, 10, 20), 4096, 8192, true}, filepath.Join(dir, "db"), func(int64) { cancel(interrupted) })
	if errs.ExitCode(err) != errs.Interrupted {
		t.Errorf("error %v", err)
	}

	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, syscall.ENOSPC
	}

	return len(p), nil
}

func TestStreamFullDisk(t *testing.T) {
	t.Parallel()

	_, err := etcd.Stream(t.Context(), stream{database(t, 100, 20), 4096, -1, false}, &fullDisk{10000}, quiet)
	if !errors.Is(err, syscall.ENOSPC) || errs.ExitCode(err) != errs.Failed {
		t.Errorf("error %v", err)
	}
}

func TestInspectDamage(t *testing.T) {
	t.Parallel()

	content := database(t, 1000, 50)
	plain := content[:len(content)-sha256.Size]

	garbled := bytes.Clone(plain)
	for i := 3 * 4096; i < 6*4096; i++ {
		garbled[i] = 0xff
	}

	for name, c := range map[string]struct {
		content []byte
		code    errs.Code
	}{
		"copy without hash": {plain, errs.OK},
		"empty":             {nil, errs.Negative},
		"text":              {[]byte("not a database at all"), errs.Negative},
		"truncated":         {plain[:5*4096], errs.Negative},
		"garbled":           {garbled, errs.Negative},
		"wrong hash":        {append(bytes.Clone(plain), make([]byte, 32)...), errs.Negative},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}

			snap, err := etcd.Inspect(t.Context(), path)
			if code := errs.ExitCode(err); code != c.code {
				t.Errorf("code %d, want %d: %v", code, c.code, err)
			}

			if err == nil && (snap.HashVerified || snap.TotalKeys != 990) {
				t.Errorf("snapshot %+v", snap)
			}
		})
	}

	if _, err := etcd.Inspect(t.Context(), filepath.Join(t.TempDir(), "none")); errs.ExitCode(err) != errs.Usage {
		t.Errorf("a file that does not exist: %v", err)
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	at := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

	var names []string
	for i := range 7 {
		names = append(names, etcd.FileName("prod", at.Add(time.Duration(i)*time.Hour)))
	}

	others := []string{etcd.FileName("prod-2", at), "etcd-prod-notes.db", "etcd-prod-20261122T200000.000Z.db.bak", "backup.db"}

	for _, name := range append(slices.Clone(names), others...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	removed, err := etcd.Retain(dir, "prod", 5)
	if err != nil || !slices.Equal(removed, []string{filepath.Join(dir, names[0]), filepath.Join(dir, names[1])}) {
		t.Errorf("removed %v, %v", removed, err)
	}

	if left, _ := os.ReadDir(dir); len(left) != 5+len(others) {
		t.Errorf("left %v", left)
	}
}

func TestChooseMember(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		change func(nodes []*node)
		want   string
	}{
		{"a follower", func([]*node) {}, "cp-2"},
		{"the one less behind", func(n []*node) { n[1].status.RaftAppliedIndex = 50 }, "cp-3"},
		{"not a learner", func(n []*node) { n[1].status.Learner = true }, "cp-3"},
		{"not a corrupt one", func(n []*node) { n[0].alarms = []talos.EtcdAlarm{{ID: id(2), Alarm: "corrupt"}} }, "cp-3"},
		{"not one without a leader", func(n []*node) { n[1].status.LeaderID = id(0) }, "cp-3"},
		{"the leader at last", func(n []*node) { n[1].err, n[2].err = errors.New("gone"), errors.New("gone") }, "cp-1"},
		{"nobody", func(n []*node) {
			for _, x := range n {
				x.err = errors.New("gone")
			}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			sources, nodes := three()
			c.change(nodes)

			got, err := etcd.Gather(t.Context(), sources, time.Second).ChooseMember()
			if got.Hostname != c.want || (err == nil) != (c.want != "") {
				t.Errorf("chose %q, %v", got.Hostname, err)
			}
		})
	}
}

// TestWithoutQuorum: the member that has most is named for a snapshot.
func TestWithoutQuorum(t *testing.T) {
	t.Parallel()

	sources, nodes := three()
	for i, n := range nodes {
		n.status.LeaderID, n.status.RaftAppliedIndex, n.listErr = id(0), uint64(10+i), errors.New("etcdserver: no leader")
	}

	nodes[0].err = errors.New("gone")

	if _, err := etcd.Gather(t.Context(), sources, time.Second).ChooseMember(); !strings.Contains(hints(err), "talosmate etcd snapshot FILE -n cp-3") {
		t.Error(hints(err))
	}
}

// hints are those of an error and of all that are joined in it.
func hints(err error) string {
	var (
		all  *errs.Nodes
		list = []error{err}
		out  []string
	)

	if errors.As(err, &all) {
		list = lists.Map(all.Errors, func(e *errs.Error) error { return e })
	}

	for _, e := range list {
		var typed *errs.Error
		if errors.As(e, &typed) {
			out = append(out, typed.Hint)
		}
	}

	return strings.Join(out, "\n")
}
