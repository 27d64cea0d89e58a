// Package untar unpacks the archive that a node sends for a file or tree, strictly below one local directory.
package untar

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
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
)

// Skipped is an entry that was omitted.
type Skipped struct {
	Path   string `json:"path"`   // The path within the copied tree.
	Reason string `json:"reason"` // Why it was not created.
}

// Summary describes the content of an archive.
type Summary struct {
	Files       int       `json:"files"`       // Regular files written.
	Directories int       `json:"directories"` // Directories created.
	Links       int       `json:"links"`       // Symbolic and hard links created.
	SizeBytes   int64     `json:"size_bytes"`  // The bytes in the files.
	Skipped     []Skipped `json:"skipped"`     // Entries that were not created: devices, links that leave the tree, and files that the node could not read.
}

// Tree unpacks a gzip-compressed tar below dir, which must exist. source is the copied path on the node: absolute links
// that stay below it are made relative. The archive is read to its end, so that every checksum in it is verified when
// Tree returns without an error. Names that are absolute or leave dir are an error. Symbolic links are created last, so
// that nothing is written through one. Links that lead out of dir, directly or through others, are skipped.
func Tree(r io.Reader, dir, source string) (Summary, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Summary{}, err
	}

	u := &unpacker{root: root, source: path.Clean(source), links: map[string]bool{}, read: map[string]string{}, sum: Summary{Skipped: []Skipped{}}}

	err = u.all(r)

	return u.sum, errors.Join(err, root.Close())
}

type symlink struct{ name, target string }

type unpacker struct {
	root   *os.Root
	source string
	sum    Summary
	late   []*tar.Header     // Directories, whose modes and times are set after their content.
	made   []symlink         // Symbolic links, created last.
	links  map[string]bool   // Their names.
	read   map[string]string // Known paths: a link's target, or empty.
	held   int               // The bytes that are held in memory.
	cost   int               // The number of steps that resolving links took.
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
	switch padding, err := io.Copy(io.Discard, io.LimitReader(zr, maxPadding+1)); {
	case err != nil:
		return fmt.Errorf("the node's archive is broken: %w", err)
	case padding > maxPadding:
		return errors.New("refusing the archive: data follows its end")
	}

	if err = u.makeLinks(); err != nil {
		return err
	}

	slices.Reverse(u.late)

	for _, h := range u.late {
		if err := u.attributes(h); err != nil {
			return err
		}
	}

	return nil
}

const (
	// maxName bounds an entry's name, and with it the depth of a tree. Linux has no longer paths.
	maxName = 4096
	// maxPadding bounds what follows the end of a tar, whose records have 10 KiB.
	maxPadding = 1 << 20
	// maxHeld bounds what is held in memory of directories, links and skipped entries, in bytes.
	maxHeld = 256 << 20
)

// hold counts what an entry holds in memory until the end.
func (u *unpacker) hold(name, target string) error {
	if u.held += 200 + len(name) + len(target); u.held > maxHeld {
		return errors.New("refusing the archive: it has too many directories, links or files that are skipped")
	}

	return nil
}

// sparse reports whether a file has holes, which need no byte of the archive.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}

	return h.Typeflag == tar.TypeGNUSparse
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := filepath.FromSlash(path.Clean(h.Name))
	if path.IsAbs(h.Name) || !filepath.IsLocal(name) || slices.Contains(strings.Split(h.Name, "/"), "..") {
		return escape(h.Name, "the name leaves the destination")
	}

	if name == "." {
		return nil
	}

	if len(name) > maxName {
		return fmt.Errorf("refusing the archive: a name has %d bytes", len(name))
	}

	h.Name = name

	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if u.links[dir] {
			u.skip(name, "it is below a link")

			return u.hold(name, "")
		}
	}

	if dir := filepath.Dir(name); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return u.refuse(h.Name, err)
		}
	}

	if h.Typeflag == tar.TypeReg && !sparse(h) {
		return u.file(h, content)
	}

	if err := u.hold(name, h.Linkname); err != nil {
		return err
	}

	switch h.Typeflag {
	case tar.TypeDir:
		u.sum.Directories++
		// without the other records of the header, which may be large
		u.late = append(u.late, &tar.Header{Typeflag: h.Typeflag, Name: h.Name, Mode: h.Mode, ModTime: h.ModTime})

		// owner-writable until its content is written
		return u.refuse(h.Name, u.root.MkdirAll(name, 0o700))
	case tar.TypeReg:
		u.skip(h.Name, "a sparse file")

		return nil
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
	// O_EXCL: an archive with the same name twice is not an archive of a tree
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u.refuse(h.Name, err)
	}

	n, err := io.Copy(f, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write %s: %w", h.Name, fsutil.Cause(err))
	}

	u.sum.Files++
	u.sum.SizeBytes += n

	return u.attributes(h)
}

// attributes sets permissions and time. Set-user-ID, set-group-ID and sticky bits are not kept: the owner here is
// another.
func (u *unpacker) attributes(h *tar.Header) error {
	if err := u.root.Chmod(h.Name, h.FileInfo().Mode()&fs.ModePerm); err != nil {
		return err
	}

	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func (u *unpacker) link(h *tar.Header) error {
	target := h.Linkname // not cleaned: a .. after a link leads elsewhere than its text
	here := path.Dir(filepath.ToSlash(h.Name))

	if path.IsAbs(target) {
		below, ok := strings.CutPrefix(path.Clean(target)+"/", strings.TrimSuffix(u.source, "/")+"/")
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

	if !filepath.IsLocal(path.Join(here, target)) { //nolint:gosec // G305: this is the check
		u.skip(h.Name, "a link to "+h.Linkname+", outside of what is copied")

		return nil
	}

	if u.links[h.Name] {
		return u.refuse(h.Name, fs.ErrExist)
	}

	u.links[h.Name] = true
	u.made = append(u.made, symlink{h.Name, filepath.FromSlash(target)})

	return nil
}

// makeLinks creates the symbolic links, and removes those again that lead out of the tree through others, also if one of them
// cannot be created.
func (u *unpacker) makeLinks() error {
	var failed error

	for i, l := range u.made {
		if err := u.root.Symlink(l.target, l.name); err != nil {
			failed, u.made = u.refuse(l.name, err), u.made[:i]

			break
		}
	}

	out := lists.Filter(u.made, func(l symlink) bool { return !u.stays(l.name) })
	for _, l := range out {
		u.skip(l.name, "a link to "+filepath.ToSlash(l.target)+", which leads outside of what is copied")

		if err := u.root.Remove(l.name); err != nil {
			return u.refuse(l.name, err)
		}
	}

	u.sum.Links += len(u.made) - len(out)

	return failed
}

const (
	maxHops = 40          // How many links Linux follows for one path.
	maxCost = 100_000_000 // A few seconds of work. Links that are not resolved within it are skipped.
)

// stays reports whether a path resolves to something within the tree at every step, through all links. A missing
// element counts as a directory, since somebody may create it as one.
func (u *unpacker) stays(name string) bool {
	at, rest := []string{}, split(name)

	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]

		if part == ".." {
			if len(at) == 0 {
				return false
			}

			at = at[:len(at)-1]

			continue
		}

		at = append(at, part)

		target := u.target(at)
		if target == "" {
			continue
		}

		if hops++; hops > maxHops || filepath.IsAbs(target) || u.cost > maxCost {
			return false
		}

		at, rest = at[:len(at)-1], slices.Concat(split(target), rest)
	}

	return true
}

// target returns the target of the link at a path, empty when there is no link.
func (u *unpacker) target(path []string) string {
	name := filepath.Join(path...)
	u.cost += len(path)

	target, known := u.read[name]
	if !known {
		u.cost += 15 * len(path)
		target, _ = u.root.Readlink(name) // anything else is not a link
		u.read[name] = target
	}

	return target
}

// split gives the elements of a path without empty ones and dots.
func split(name string) []string {
	return slices.DeleteFunc(strings.Split(filepath.ToSlash(name), "/"), func(e string) bool { return e == "" || e == "." })
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
		WithHint("nothing was kept: a Talos node does not make such archives")
}
