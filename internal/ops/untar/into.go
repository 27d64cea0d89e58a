package untar

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// Options configure a copy.
type Options struct {
	Source    string // The path on the node.
	Tree      bool   // It is a directory; the archive of anything else has one entry with its base name.
	Overwrite bool   // Replace what is at the destination.
}

// Into receives the archive of a file or tree and puts its content at dest: below dest if that is a directory (or ends
// in a separator), otherwise as dest itself. receive writes the archive. The content is unpacked next to its
// destination and moved there when all of it was verified; a failure leaves nothing. Existing files are kept unless
// Overwrite is set. The final path is returned.
func Into(dest string, o Options, receive func(io.Writer) error) (place string, sum Summary, err error) {
	place, err = resolve(dest, o.Source)
	if err != nil {
		return "", sum, err
	}

	_, statErr := os.Lstat(place)
	if statErr == nil && !o.Overwrite {
		return place, sum, errs.Usagef("%s already exists", place).WithHint("choose another destination, or give --overwrite")
	}

	if err = os.MkdirAll(filepath.Dir(place), 0o755); err != nil { //nolint:gosec // G301: the folder of a copy, with the mode that the umask leaves, as cp makes it
		return place, sum, err
	}

	tmp, err := os.MkdirTemp(filepath.Dir(place), "."+filepath.Base(place)+".tmp-*")
	if err != nil {
		return place, sum, err
	}

	defer func() { err = errors.Join(err, removeAll(tmp)) }()

	tree := filepath.Join(tmp, "new")
	if err = os.Mkdir(tree, 0o755); err != nil { //nolint:gosec // G301: a folder of the copy, with the mode that the umask leaves; the folder around it is private until it is complete
		return place, sum, err
	}

	if sum, err = unpackFrom(receive, tree, o.Source); err != nil {
		return place, sum, err
	}

	content := tree
	if !o.Tree {
		content = filepath.Join(tree, path.Base(path.Clean(o.Source)))
	}

	// A single link, or a tree in place of a file, would be resolved from another place than where it was checked.
	if info, err := os.Lstat(content); err != nil || info.IsDir() != o.Tree || !o.Tree && !info.Mode().IsRegular() {
		return place, sum, errors.New("the node's archive does not contain the file")
	}

	if statErr == nil {
		if err = os.Rename(place, filepath.Join(tmp, "old")); err != nil {
			return place, sum, err
		}
	}

	if err = os.Rename(content, place); err != nil && statErr == nil {
		err = errors.Join(err, os.Rename(filepath.Join(tmp, "old"), place))
	}

	return place, sum, err
}

func resolve(dest, source string) (string, error) {
	base := path.Base(path.Clean(source))

	info, err := os.Stat(dest)

	switch {
	case err == nil && info.IsDir(), strings.HasSuffix(dest, string(filepath.Separator)):
		if base == "/" {
			base = "root"
		}

		return filepath.Abs(filepath.Join(dest, base))
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", errs.Usagef("cannot use the destination: %w", err)
	default:
		return filepath.Abs(dest)
	}
}

// unpackFrom connects the receiver and the unpacker by a pipe, so that memory stays constant. The receiver's error
// takes precedence: it is the cause of the unpacker's.
func unpackFrom(receive func(io.Writer) error, dir, source string) (Summary, error) {
	r, w := io.Pipe()
	received := make(chan error, 1)

	go func() {
		err := errs.Safely(func() error { return receive(w) })
		_ = w.CloseWithError(err) // never fails
		received <- err
	}()

	sum, err := Tree(r, dir, source)
	_ = r.CloseWithError(err) // stops a receiver that would continue

	if recvErr := <-received; recvErr != nil && !errors.Is(recvErr, err) && !errors.Is(recvErr, io.ErrClosedPipe) {
		return sum, recvErr
	}

	return sum, err
}

// removeAll removes a tree even if directories in it are read-only.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700) //nolint:gosec // G302: the tree is ours and is removed; RemoveAll reports what could not be changed
		}

		return nil
	})

	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot clean up: %w", err)
	}

	return nil
}
