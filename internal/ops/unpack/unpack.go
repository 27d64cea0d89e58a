// Package unpack turns the archive that a node sends for a file or tree into files below one local
// directory, and nowhere else.
package unpack

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// Skipped is an entry that was left away.
type Skipped struct {
	Path   string `json:"path"`   // The path within the copied tree.
	Reason string `json:"reason"` // Why it was not made.
}

// Summary is what an archive held.
type Summary struct {
	Files       int       `json:"files"`       // Regular files written.
	Directories int       `json:"directories"` // Directories made.
	Links       int       `json:"links"`       // Symbolic and hard links made.
	SizeBytes   int64     `json:"size_bytes"`  // The bytes in the files.
	Skipped     []Skipped `json:"skipped"`     // Entries that were not made: devices, links that leave the tree, and what the node could not read.
}

// Tree unpacks a gzip-compressed tar below dir, which must exist. source is the copied path on the node:
// absolute links that stay below it are made relative. The archive is read to its end, so that every
// checksum in it was verified when Tree returns without an error. Names that are absolute or climb out of
// dir are an error, and nothing is ever written through a link that leaves dir.
func Tree(r io.Reader, dir, source string) (Summary, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Summary{}, err
	}

	u := &unpacker{root: root, source: path.Clean(source), sum: Summary{Skipped: []Skipped{}}}

	err = u.all(r)

	return u.sum, errors.Join(err, root.Close())
}

type unpacker struct {
	root   *os.Root
	source string
	sum    Summary
	late   []*tar.Header // Directories, whose modes and times are set when their content is there.
}

func (u *unpacker) all(r io.Reader) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("the node's archive is broken: %w", err)
	}

	archive := tar.NewReader(zr)

	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return fmt.Errorf("the node's archive is broken: %w", err)
		}

		if err = u.entry(h, archive); err != nil {
			return err
		}
	}

	// what follows the tar's end mark is padding; reading it verifies gzip's checksum and length
	if _, err = io.Copy(io.Discard, zr); err != nil {
		return fmt.Errorf("the node's archive is broken: %w", err)
	}

	slices.Reverse(u.late)

	for _, h := range u.late {
		if err := u.attributes(h); err != nil {
			return err
		}
	}

	return nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if path.IsAbs(h.Name) || !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return escape(h.Name, "the name leaves the destination")
	}

	if name == "." {
		return nil
	}

	h.Name = name

	if dir := filepath.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return u.refuse(h.Name, err)
		}
	}

	switch h.Typeflag {
	case tar.TypeDir:
		u.sum.Directories++
		u.late = append(u.late, h)

		// owner-writable until its content is there
		return u.refuse(h.Name, u.root.MkdirAll(name, 0o700))
	case tar.TypeReg:
		return u.file(h, content)
	case tar.TypeSymlink:
		return u.link(h)
	case tar.TypeLink:
		target := path.Clean(h.Linkname)
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(target) {
			return escape(h.Name, "it links to "+h.Linkname)
		}

		u.sum.Links++

		return u.refuse(h.Name, u.root.Link(filepath.FromSlash(target), name))
	default:
		u.skip(h.Name, "not a file, directory or link")

		return nil
	}
}

func (u *unpacker) file(h *tar.Header, content io.Reader) error {
	// O_EXCL: an archive that names a file twice is no archive of a tree
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u.refuse(h.Name, err)
	}

	n, err := io.Copy(f, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", h.Name, err)
	}

	u.sum.Files++
	u.sum.SizeBytes += n

	return u.attributes(h)
}

// attributes sets permissions and time. Set-user-ID and its like are not kept: the owner here is another.
func (u *unpacker) attributes(h *tar.Header) error {
	if err := u.root.Chmod(h.Name, h.FileInfo().Mode()&fs.ModePerm); err != nil {
		return err
	}

	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func (u *unpacker) link(h *tar.Header) error {
	target := path.Clean(h.Linkname)
	here := path.Dir(filepath.ToSlash(h.Name))

	if path.IsAbs(target) {
		below, ok := strings.CutPrefix(target+"/", strings.TrimSuffix(u.source, "/")+"/")
		if !ok {
			u.skip(h.Name, "a link to "+h.Linkname+", outside of what is copied")

			return nil
		}

		rel, err := filepath.Rel(here, path.Clean("./"+below))
		if err != nil {
			return err
		}

		target = filepath.ToSlash(rel)
	}

	if !filepath.IsLocal(path.Join(here, target)) {
		u.skip(h.Name, "a link to "+h.Linkname+", outside of what is copied")

		return nil
	}

	u.sum.Links++

	return u.refuse(h.Name, u.root.Symlink(filepath.FromSlash(target), h.Name))
}

func (u *unpacker) skip(name, reason string) {
	u.sum.Skipped = append(u.sum.Skipped, Skipped{Path: filepath.ToSlash(name), Reason: reason})
}

func (u *unpacker) refuse(name string, err error) error {
	if err == nil {
		return nil
	}

	return fmt.Errorf("cannot make %s: %w", name, err)
}

func escape(name, why string) error {
	return errs.New(errs.Failed, "refusing the archive: entry %q would leave the destination: %s", name, why).
		WithHint("nothing was kept; the node or the endpoint sends archives that a Talos node does not make")
}
