package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/talosmate/talosmate/internal/talos"
)

// Database describes the content of an etcd database file.
type Database struct {
	Hash           string // CRC-32C over every bucket, as `etcdutl snapshot status` prints it.
	Revision       int64  // The last revision.
	TotalKeys      int    // Keys that exist at the last revision.
	Revisions      int    // Revisions that are kept, deletions included.
	StorageVersion string // The version of the storage schema; empty when none is written yet.
	Leases         int    // The leases that are kept.
	AppliedIndex   uint64 // The raft index that it holds everything up to; 0 when it is not written.
	Members        []Seat // The members of the cluster that it was taken from, at most maxSeats.
}

// Seat is a member of etcd as a database has it.
type Seat struct {
	ID      string `json:"id"`                // Its ID, hex.
	Name    string `json:"name"`              // Its name.
	Address string `json:"address,omitempty"` // Where its peers reach it; absent where the database does not say.
}

// Entry is a key that exists at the last revision. Its bytes are valid while it is visited only.
type Entry struct {
	Key, Value []byte
	Lease      int64 // The lease that it ends with; 0 for none.
}

// window is how much of the file is read before it is closed and opened again. The file is mapped into memory, and only
// closing releases the pages: a large snapshot must not need a large process.
const window = 4 << 20

// The buckets and the revision format of etcd's storage (server/storage/schema and server/storage/mvcc).
const (
	keyBucket       = "key"
	metaBucket      = "meta"
	storageVersion  = "storageVersion"
	revisionBytes   = 17 // main revision, '_', sub revision
	tombstoneMark   = 't'
	keyField        = 1 // mvccpb.KeyValue.key
	valueField      = 5 // mvccpb.KeyValue.value
	leaseField      = 6 // mvccpb.KeyValue.lease
	leaseBucket     = "lease"
	memberBucket    = "members"
	consistentIndex = "consistent_index"
	openTimeout     = 5 * time.Second
	notEtcd         = "it is not an etcd database"
	maxSeats        = 64
	maxSeatBytes    = 64 << 10
)

// ReadDatabase checks the pages of an etcd database file and reads all of it. A trailing hash does not matter. If visit
// is not nil, the file is read once more, and visit receives each key that exists at the last revision, in the order in
// which they were written.
//
// The memory that it needs does not depend on the size of the file or of its values: a bit for each page, at most 40
// bytes for each key, and one window of the file at a time.
func ReadDatabase(ctx context.Context, path string, visit func(Entry) error) (Database, error) {
	if err := CheckPages(path); err != nil {
		return Database{}, fmt.Errorf("cannot read the database: %w", err)
	}

	c := &counter{crc: crc32.New(crc32.MakeTable(crc32.Castagnoli)), live: map[uint64]int64{}, seed: maphash.MakeSeed()}

	err := scan(ctx, path, c.visit)

	switch {
	case err == nil && !c.keyed:
		err = errors.New(notEtcd)
	case err == nil && visit != nil:
		err = scan(ctx, path, c.newest(visit))
	}

	if err != nil {
		return Database{}, fmt.Errorf("cannot read the database: %w", err)
	}

	c.db.Hash = fmt.Sprintf("%08x", c.crc.Sum32())
	c.db.TotalKeys = len(c.live)

	return c.db, nil
}

// newest passes on the entries of the last revision of each key.
func (c *counter) newest(visit func(Entry) error) func(bucket, k, v []byte) error {
	return func(bucket, k, v []byte) error {
		if len(k) < revisionBytes || string(bucket) != keyBucket {
			return nil
		}

		e, err := entryOf(v)
		if err != nil {
			return err
		}

		if c.live[maphash.Bytes(c.seed, e.Key)] != int64(binary.BigEndian.Uint64(k)) || tombstone(k) { //nolint:gosec // G115: as etcd reads it
			return nil
		}

		return visit(e)
	}
}

// counter adds up the content of a database. Keys are distinguished by a 64-bit hash, so that the index of their last
// revisions needs a few bytes a key, however long the keys are. etcd writes a key at most once in a revision.
type counter struct {
	db  Database
	crc interface {
		Sum32() uint32
		Write([]byte) (int, error)
	}
	live  map[uint64]int64 // The last revision of each key that exists.
	seed  maphash.Seed
	keyed bool
}

// visit receives a bucket (k is nil) or an entry of it.
func (c *counter) visit(bucket, k, v []byte) error {
	if k == nil {
		_, _ = c.crc.Write(bucket) // writing to a hash cannot fail
		c.keyed = c.keyed || string(bucket) == keyBucket

		return nil
	}

	_, _ = c.crc.Write(k) // see above
	_, _ = c.crc.Write(v) // see above

	switch string(bucket) {
	case metaBucket:
		switch {
		case string(k) == storageVersion:
			c.db.StorageVersion = string(v)
		case string(k) == consistentIndex && len(v) == 8:
			c.db.AppliedIndex = binary.BigEndian.Uint64(v)
		}
	case leaseBucket:
		c.db.Leases++
	case memberBucket:
		c.seat(k, v)
	case keyBucket:
		return c.revision(k, v)
	}

	return nil
}

func (c *counter) revision(k, v []byte) error {
	if len(k) < revisionBytes || k[8] != '_' {
		return fmt.Errorf("%q is not a revision", k)
	}

	c.db.Revision = int64(binary.BigEndian.Uint64(k)) //nolint:gosec // G115: as etcd reads it
	c.db.Revisions++

	e, err := entryOf(v)
	if err != nil {
		return fmt.Errorf("revision %d: %w", c.db.Revision, err)
	}

	id := maphash.Bytes(c.seed, e.Key)

	if tombstone(k) {
		delete(c.live, id)
	} else {
		c.live[id] = c.db.Revision
	}

	return nil
}

func tombstone(k []byte) bool { return len(k) > revisionBytes && k[revisionBytes] == tombstoneMark }

// seat notes a member of the cluster. What does not read as one is omitted: a restore does not use it.
func (c *counter) seat(k, v []byte) {
	var m struct {
		Name     string   `json:"name"`
		PeerURLs []string `json:"peerURLs"`
	}

	if len(c.db.Members) < maxSeats && len(v) <= maxSeatBytes && json.Unmarshal(v, &m) == nil {
		c.db.Members = append(c.db.Members, Seat{ID: string(k), Name: m.Name, Address: talos.EtcdMember{PeerURLs: m.PeerURLs}.Address()})
	}
}

// entryOf reads a serialised mvccpb.KeyValue. Three fields do not justify etcd's generated code with its own protobuf
// runtime.
func entryOf(value []byte) (e Entry, err error) {
	for len(value) > 0 {
		number, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return e, protowire.ParseError(n)
		}

		value = value[n:]

		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return e, protowire.ParseError(n)
		}

		switch {
		case number == keyField && kind == protowire.BytesType:
			e.Key, _ = protowire.ConsumeBytes(value)
		case number == valueField && kind == protowire.BytesType:
			e.Value, _ = protowire.ConsumeBytes(value)
		case number == leaseField && kind == protowire.VarintType:
			lease, _ := protowire.ConsumeVarint(value)
			e.Lease = int64(lease) //nolint:gosec // G115: as etcd writes it
		}

		value = value[n:]
	}

	if e.Key == nil {
		return e, errors.New("an entry without a key")
	}

	return e, nil
}

// position is where a window ended.
type position struct {
	bucket, key []byte
}

// scan visits every bucket and entry in order, one window after another.
func scan(ctx context.Context, path string, visit func(bucket, k, v []byte) error) error {
	var at *position

	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		var err error
		if at, err = scanWindow(path, at, visit); err != nil || at == nil {
			return err
		}
	}
}

func scanWindow(path string, from *position, visit func(bucket, k, v []byte) error) (to *position, err error) {
	err = withDatabase(path, func(tx *bolt.Tx) error {
		to, err = walk(tx, from, visit)

		return err
	})

	return to, err
}

func walk(tx *bolt.Tx, from *position, visit func(bucket, k, v []byte) error) (*position, error) {
	seen := 0
	buckets := tx.Cursor()

	name, _ := buckets.First()
	if from != nil {
		name, _ = buckets.Seek(from.bucket)
	}

	for ; name != nil; name, _ = buckets.Next() {
		b := tx.Bucket(name)
		if b == nil {
			return nil, errors.New(notEtcd)
		}

		entries := b.Cursor()

		var k, v []byte

		if from != nil && bytes.Equal(name, from.bucket) {
			if k, v = entries.Seek(from.key); bytes.Equal(k, from.key) {
				k, v = entries.Next()
			}
		} else {
			if err := visit(name, nil, nil); err != nil {
				return nil, err
			}

			k, v = entries.First()
		}

		for ; k != nil; k, v = entries.Next() {
			if err := visit(name, k, v); err != nil {
				return nil, err
			}

			if seen += len(k) + len(v); seen > window {
				return &position{bucket: bytes.Clone(name), key: bytes.Clone(k)}, nil
			}
		}
	}

	return nil, nil
}

// withDatabase opens the file for reading. The file is mapped: with a damaged or truncated file the library panics or
// the memory access faults, which becomes an error here.
func withDatabase(path string, fn func(*bolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the database is damaged: %v", p)
		}
	}()

	info, err := os.Stat(path)
	if err != nil {
		return err
	}

	if info.Size() == 0 {
		return errors.New(notEtcd) // bbolt would write an empty database into it
	}

	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, Timeout: openTimeout})
	if err != nil {
		return err
	}

	return errors.Join(db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: it has %d of %d bytes", ErrTruncated, info.Size(), tx.Size())
		}

		return fn(tx)
	}), db.Close())
}
