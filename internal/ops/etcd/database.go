package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// Database describes the content of an etcd database file.
type Database struct {
	Hash           string // CRC-32C over every bucket, as `etcdutl snapshot status` prints it.
	Revision       int64  // The last revision.
	TotalKeys      int    // Keys that exist at the last revision.
	Revisions      int    // Revisions that are kept, deletions included.
	StorageVersion string // The version of the storage schema; empty when none is written yet.
}

// window is how much of the file is read before it is closed and opened again. The file is mapped into memory, and only
// closing releases the pages: a large snapshot must not need a large process.
const window = 4 << 20

// The buckets and the revision format of etcd's storage (server/storage/schema and server/storage/mvcc).
const (
	keyBucket        = "key"
	metaBucket       = "meta"
	storageVersion   = "storageVersion"
	revisionBytes    = 17 // main revision, '_', sub revision
	tombstoneMark    = 't'
	keyField         = 1 // mvccpb.KeyValue.key
	openTimeout      = 5 * time.Second
	notEtcd          = "it is not an etcd database"
	maxReportedFlaws = 3
)

// ReadDatabase opens an etcd database file and reads all of it. A trailing hash does not matter.
func ReadDatabase(ctx context.Context, path string) (Database, error) {
	c := &counter{crc: crc32.New(crc32.MakeTable(crc32.Castagnoli)), live: map[uint64]struct{}{}, seed: maphash.MakeSeed()}

	if err := scan(ctx, path, c.visit); err != nil {
		return Database{}, fmt.Errorf("cannot read the database: %w", err)
	}

	if !c.keyed {
		return Database{}, errors.New("cannot read the database: " + notEtcd)
	}

	c.db.Hash = fmt.Sprintf("%08x", c.crc.Sum32())
	c.db.TotalKeys = len(c.live)

	return c.db, nil
}

// counter adds up the content of a database. Keys are distinguished by a 64-bit hash, so that the count needs a few
// bytes a key, however long the keys are.
type counter struct {
	db  Database
	crc interface {
		Sum32() uint32
		Write([]byte) (int, error)
	}
	live  map[uint64]struct{}
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
		if string(k) == storageVersion {
			c.db.StorageVersion = string(v)
		}
	case keyBucket:
		return c.revision(k, v)
	}

	return nil
}

func (c *counter) revision(k, v []byte) error {
	if len(k) < revisionBytes || k[8] != '_' {
		return fmt.Errorf("%q is not a revision", k)
	}

	c.db.Revision = int64(binary.BigEndian.Uint64(k))
	c.db.Revisions++

	key, err := keyOf(v)
	if err != nil {
		return fmt.Errorf("revision %d: %w", c.db.Revision, err)
	}

	id := maphash.Bytes(c.seed, key)

	if len(k) > revisionBytes && k[revisionBytes] == tombstoneMark {
		delete(c.live, id)
	} else {
		c.live[id] = struct{}{}
	}

	return nil
}

// keyOf extracts the key from a serialised mvccpb.KeyValue. One field does not justify etcd's generated code with its
// own protobuf runtime.
func keyOf(value []byte) ([]byte, error) {
	for len(value) > 0 {
		number, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}

		value = value[n:]

		if number == keyField && kind == protowire.BytesType {
			key, n := protowire.ConsumeBytes(value)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}

			return key, nil
		}

		if n = protowire.ConsumeFieldValue(number, kind, value); n < 0 {
			return nil, protowire.ParseError(n)
		}

		value = value[n:]
	}

	return nil, errors.New("an entry without a key")
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

// CheckStructure looks for damage in the file's pages, as etcd's own tool does before a restore.
func CheckStructure(path string) error {
	return withDatabase(path, func(tx *bolt.Tx) error {
		var flaws []error

		more := 0

		for flaw := range tx.Check() {
			if len(flaws) < maxReportedFlaws {
				flaws = append(flaws, flaw)
			} else {
				more++
			}
		}

		if more > 0 {
			flaws = append(flaws, fmt.Errorf("and %d more", more))
		}

		return errors.Join(flaws...)
	})
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
			return fmt.Errorf("the database is truncated: it has %d of %d bytes", info.Size(), tx.Size())
		}

		return fn(tx)
	}), db.Close())
}
