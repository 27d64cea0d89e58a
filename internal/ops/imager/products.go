package imager

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// Product is a file that a build made.
type Product struct {
	Path      string `json:"path"`       // Its path.
	SizeBytes int64  `json:"size_bytes"` // Its size.
	SHA256    string `json:"sha256"`     // The SHA-256 of its content.
}

// owner is the user and group that are to own the results of a build.
type owner struct{ uid, gid int }

// collect moves the files that the container wrote from its scratch directory to dir. They get their final name only
// when they are complete, owned by the caller and readable. Anything but a plain file is refused: a link could point
// anywhere on this machine.
func collect(scratch, dir string, who owner) ([]Product, error) {
	var names []string

	err := filepath.WalkDir(scratch, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return errs.New(errs.Failed, "the imager wrote %s, which is not a plain file", d.Name())
		}

		name, err := filepath.Rel(scratch, path)
		names = append(names, name)

		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read what the imager wrote: %w", err)
	}

	if len(names) == 0 {
		return nil, errs.New(errs.Failed, "the imager succeeded but wrote nothing")
	}

	slices.Sort(names)

	out := make([]Product, 0, len(names))

	for _, name := range names {
		p, err := own(filepath.Join(scratch, name), who)
		if err != nil {
			return nil, err
		}

		p.Path = filepath.Join(dir, name)
		out = append(out, p)
	}

	// Files get their final names only when all of them are ready.
	for i, name := range names {
		if err := os.MkdirAll(filepath.Dir(out[i].Path), 0o755); err != nil { //nolint:gosec // G301: images for others to boot from, without secrets
			return nil, diskError(dir, err)
		}

		if err := os.Rename(filepath.Join(scratch, name), out[i].Path); err != nil {
			return nil, diskError(dir, err)
		}
	}

	return out, nil
}

// own changes the owner of a file to the caller and hashes it. If it belongs to a root user that we are not, it is
// replaced by a copy.
func own(path string, who owner) (Product, error) {
	if err := os.Lchown(path, who.uid, who.gid); err != nil {
		if !errors.Is(err, fs.ErrPermission) {
			return Product{}, fmt.Errorf("cannot take over %s: %w", filepath.Base(path), err)
		}

		if err = copyOver(path); err != nil {
			return Product{}, (&errs.Error{
				Exit: errs.Failed, Err: fmt.Errorf("cannot take over %s, which the container's root owns: %w", filepath.Base(path), err),
			}).WithHint("use a rootless engine, such as podman without sudo")
		}
	}

	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // G302: images for others to boot from, without secrets
		return Product{}, fmt.Errorf("cannot set the mode of %s: %w", filepath.Base(path), err)
	}

	sum, size, err := hashFile(path)
	if err != nil {
		return Product{}, err
	}

	return Product{SHA256: sum, SizeBytes: size}, nil
}

// copyOver replaces a file by a copy of it.
func copyOver(path string) error {
	in, err := os.Open(path) //nolint:gosec // G304: a file that the engine wrote into our own scratch folder
	if err != nil {
		return err
	}

	defer in.Close() //nolint:errcheck // it was only read

	copied := path + ".copy"

	if err = fsutil.WriteFile(copied, 0o644, func(w io.Writer) error {
		_, err := io.Copy(w, in)

		return err
	}); err != nil {
		return diskError(filepath.Dir(path), err)
	}

	return os.Rename(copied, path)
}

// diskError adds a hint when the disk is full.
func diskError(dir string, err error) error {
	if isFull(err.Error()) {
		return errs.New(errs.Failed, "cannot write to %s: no space left on the disk: %w", dir, err).WithHint("free space there, or choose another directory with --output-dir")
	}

	return err
}

func isFull(text string) bool {
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded")
}
