package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The format of bbolt's pages (go.etcd.io/bbolt, internal/common), little endian as on every machine that runs Talos.
const (
	pageHeader     = 16 // id, flags, count, overflow
	pageElement    = 16 // of a branch: position, size of the key, page; of a leaf: flags, position, both sizes
	metaBytes      = 64 // without the header
	branchPage     = 0x01
	leafPage       = 0x02
	freelistPage   = 0x10
	bucketEntry    = 0x01 // flag of an entry whose value is a bucket
	bucketBytes    = 16   // its root page and its sequence; an inline page follows when the root is 0
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	noFreelist     = ^uint64(0)
	leastPage      = 512
	mostPage       = 64 << 10
	maxPageRun     = 128 << 20 // The largest entry, and the largest list of free pages, that is read.
	maxPageDepth   = 48        // A tree of 8 GiB is less than ten pages deep.
	firstDataPage  = 2         // after the two copies of the meta page
	countOverflows = 0xFFFF    // the count of a list of free pages is its first element then
)

// ErrTruncated is the error about a file that ends before the database does.
var ErrTruncated = errors.New("the file is truncated")

// CheckPages follows every reference in a database file: each page exists, is of its type, holds its entries in order
// and is used once. It reads the file page by page and needs one bit for each page, and a buffer for each level of the
// tree. bbolt's own check starts a goroutine in which a damaged reference ends the process, and bbolt's cursors follow
// a circle of pages without end; a file that passed this check does neither.
func CheckPages(path string) error {
	f, err := os.Open(path) //nolint:gosec // G304: a snapshot that the user names or that was just written
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is only read

	info, err := f.Stat()
	if err != nil {
		return err
	}

	c := &pageCheck{file: f}

	root, free, err := c.meta(info.Size())
	if err != nil {
		return err
	}

	if err = c.tree(root, 0, nil, nil); err != nil {
		return err
	}

	return c.freelist(free)
}

type pageCheck struct {
	file    io.ReaderAt
	size    uint64   // of a page
	high    uint64   // the first page that does not exist
	seen    []uint64 // a bit for each page
	buffers [maxPageDepth][]byte
}

// meta chooses the copy of the meta page that bbolt uses: the newest one whose checksum is right.
func (c *pageCheck) meta(size int64) (root, free uint64, err error) {
	newest := uint64(0)

	try := func(at int64, want uint64) {
		page := make([]byte, pageHeader+metaBytes)
		if _, err := c.file.ReadAt(page, at); err != nil {
			return
		}

		m := page[pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(m[:56]) // writing to a hash cannot fail

		pageSize := uint64(binary.LittleEndian.Uint32(m[8:]))
		if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion || sum.Sum64() != binary.LittleEndian.Uint64(m[56:]) ||
			pageSize < leastPage || pageSize > mostPage || pageSize&(pageSize-1) != 0 || (want != 0 && pageSize != want) {
			return
		}

		if txid := binary.LittleEndian.Uint64(m[48:]); c.size == 0 || txid > newest {
			newest, c.size, c.high = txid, pageSize, binary.LittleEndian.Uint64(m[40:])
			root, free = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:])
		}
	}

	try(0, 0)

	if c.size != 0 {
		try(int64(c.size), c.size) //nolint:gosec // G115: at most 64 KiB
	} else {
		for want := uint64(leastPage); want <= mostPage; want *= 2 {
			try(int64(want), want) //nolint:gosec // G115: at most 64 KiB
		}
	}

	switch {
	case c.size == 0:
		return 0, 0, errors.New(notEtcd)
	case c.high > uint64(size)/c.size: //nolint:gosec // G115: the size of a file is not negative
		return 0, 0, fmt.Errorf("%w: it has %d bytes, the database %d pages of %d", ErrTruncated, size, c.high, c.size)
	}

	c.seen = make([]uint64, c.high/64+1)

	return root, free, nil
}

// claim marks a page as used. It fails for one that does not exist or is used already.
func (c *pageCheck) claim(id uint64) error {
	if id < firstDataPage || id >= c.high {
		return fmt.Errorf("page %d does not exist", id)
	}

	if c.seen[id/64]&(1<<(id%64)) != 0 {
		return fmt.Errorf("page %d is used twice", id)
	}

	c.seen[id/64] |= 1 << (id % 64)

	return nil
}

// read claims a page with the pages that continue it, and reads them.
func (c *pageCheck) read(id uint64, depth int) ([]byte, error) {
	if depth >= maxPageDepth {
		return nil, fmt.Errorf("page %d: the tree is deeper than any that etcd writes", id)
	}

	if err := c.claim(id); err != nil {
		return nil, err
	}

	header := make([]byte, pageHeader)
	if _, err := c.file.ReadAt(header, int64(id*c.size)); err != nil { //nolint:gosec // G115: within the file
		return nil, fmt.Errorf("page %d: %w", id, err)
	}

	more := uint64(binary.LittleEndian.Uint32(header[12:]))
	length := (more + 1) * c.size

	if found := binary.LittleEndian.Uint64(header); found != id {
		return nil, fmt.Errorf("page %d: it says that it is page %d", id, found)
	}

	if length > maxPageRun || id+more >= c.high {
		return nil, fmt.Errorf("page %d: it is continued over %d pages", id, more)
	}

	for i := range more {
		if err := c.claim(id + 1 + i); err != nil {
			return nil, err
		}
	}

	if uint64(cap(c.buffers[depth])) < length {
		c.buffers[depth] = make([]byte, length)
	}

	page := c.buffers[depth][:length]
	if _, err := c.file.ReadAt(page, int64(id*c.size)); err != nil { //nolint:gosec // G115: within the file
		return nil, fmt.Errorf("page %d: %w", id, err)
	}

	return page, nil
}

// tree checks a page and all below it. Its keys are not below from, and are below to; nil stands for none.
func (c *pageCheck) tree(id uint64, depth int, from, to []byte) error {
	page, err := c.read(id, depth)
	if err != nil {
		return err
	}

	if err = c.entries(page, depth, from, to); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}

	return nil
}

func (c *pageCheck) entries(page []byte, depth int, from, to []byte) error {
	kind, count := binary.LittleEndian.Uint16(page[8:]), int(binary.LittleEndian.Uint16(page[10:]))

	switch {
	case kind != branchPage && kind != leafPage:
		return fmt.Errorf("its type is %#x", kind)
	case pageHeader+count*pageElement > len(page):
		return fmt.Errorf("it has no room for %d entries", count)
	case kind == branchPage && count == 0:
		return errors.New("it is an empty branch")
	}

	var last []byte

	for i := range count {
		k, v, flags, err := element(page, kind, i)

		switch {
		case err != nil:
			return err
		case i > 0 && bytes.Compare(last, k) >= 0, i == 0 && kind == leafPage && bytes.Compare(k, from) < 0, to != nil && bytes.Compare(k, to) >= 0:
			return fmt.Errorf("entry %d is out of order", i)
		}

		last = k

		switch {
		case kind == branchPage:
			end := to
			if i+1 < count {
				if end, _, _, err = element(page, kind, i+1); err != nil {
					return err
				}
			}

			err = c.tree(binary.LittleEndian.Uint64(page[pageHeader+i*pageElement+8:]), depth+1, k, end)
		case flags&bucketEntry != 0:
			err = c.bucket(v, depth)
		}

		if err != nil {
			return err
		}
	}

	return nil
}

func (c *pageCheck) bucket(v []byte, depth int) error {
	if len(v) < bucketBytes {
		return fmt.Errorf("a bucket of %d bytes", len(v))
	}

	if root := binary.LittleEndian.Uint64(v); root != 0 {
		return c.tree(root, depth+1, nil, nil)
	}

	page := v[bucketBytes:]
	if len(page) < pageHeader || binary.LittleEndian.Uint16(page[8:]) != leafPage || depth+1 >= maxPageDepth {
		return errors.New("a bucket within the entry is damaged")
	}

	return c.entries(page, depth+1, nil, nil)
}

// element is an entry of a page; v is nil in a branch.
func element(page []byte, kind uint16, i int) (k, v []byte, flags uint32, err error) {
	at := pageHeader + i*pageElement
	e := page[at:]
	pos, ksize, vsize := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), uint32(0)

	if kind == leafPage {
		flags, pos, ksize, vsize = pos, ksize, binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
	}

	start := uint64(at) + uint64(pos) //nolint:gosec // G115: an offset in a page
	if start+uint64(ksize)+uint64(vsize) > uint64(len(page)) {
		return nil, nil, 0, fmt.Errorf("entry %d leaves its page", i)
	}

	return page[start:][:ksize:ksize], page[start+uint64(ksize):][:vsize:vsize], flags, nil
}

// freelist checks the list of free pages, where one is written; etcd writes none. With a list each page is in use or
// free.
func (c *pageCheck) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}

	page, err := c.read(id, 0)
	if err != nil {
		return fmt.Errorf("the list of free pages: %w", err)
	}

	list, count := page[pageHeader:], uint64(binary.LittleEndian.Uint16(page[10:]))
	if count == countOverflows {
		count, list = binary.LittleEndian.Uint64(list), list[8:]
	}

	if binary.LittleEndian.Uint16(page[8:]) != freelistPage || count > uint64(len(list))/8 {
		return errors.New("the list of free pages is damaged")
	}

	for i := range count {
		if err = c.claim(binary.LittleEndian.Uint64(list[i*8:])); err != nil {
			return fmt.Errorf("the list of free pages: %w", err)
		}
	}

	for id := uint64(firstDataPage); id < c.high; id++ {
		if c.seen[id/64]&(1<<(id%64)) == 0 {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}

	return nil
}
