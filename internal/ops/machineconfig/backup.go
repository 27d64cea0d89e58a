package machineconfig

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kballard/go-shellquote"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/talos"
)

// Backups keep in a directory configurations of nodes, and what a run that was broken off leaves for the next one. All
// files are readable by their owner only.
type Backups struct{ Dir string }

// Keep writes the configuration of a node to a file that is named by its content, so that nothing ever replaces it.
func (b Backups) Keep(t talos.Target, text []byte) (string, error) {
	sum := sha256.Sum256(text)

	path, err := b.path(t, "-"+hex.EncodeToString(sum[:6])+".yaml")
	if err != nil {
		return "", err
	}

	if there, err := fsutil.ReadFile(path, fsutil.MaxText); err == nil && string(there) == string(text) {
		return path, nil
	}

	return path, fsutil.WriteBytes(path, 0o600, text)
}

func (b Backups) path(t talos.Target, suffix string) (string, error) {
	name, err := fsutil.Element(t.Name())

	return filepath.Join(b.Dir, name+suffix), err
}

// Read reads what Write wrote about a node under a suffix; found is false when there is none.
func (b Backups) Read(t talos.Target, suffix string, into any) (found bool, err error) {
	path, err := b.path(t, suffix)
	if err != nil {
		return false, err
	}

	text, err := fsutil.ReadFile(path, fsutil.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}

	if err == nil {
		err = foreign.JSON(text, into)
	}

	if err != nil {
		return false, errs.New(errs.Failed, "cannot read the record of an earlier run on %s: %w", t.Name(), err).
			WithHint("it is %s: without it, the node is changed or verified from its present state", path)
	}

	return true, nil
}

// Write writes something about a node durably.
func (b Backups) Write(t talos.Target, suffix string, value any) error {
	path, err := b.path(t, suffix)
	if err != nil {
		return err
	}

	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write the record of the run: %w", err)
	}

	return fsutil.WriteBytes(path, 0o600, text)
}

// Remove removes what Write wrote.
func (b Backups) Remove(t talos.Target, suffix string) error {
	path, err := b.path(t, suffix)
	if err == nil {
		err = os.Remove(path)
	}

	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// Same reports whether two configurations say the same, whatever their form on the page.
func Same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}

	x, errX := Parse(a)
	y, errY := Parse(b)

	return errX == nil && errY == nil && len(Diff(x, y, false)) == 0
}

// RestoreCommand is the command line that gives a node a configuration back.
func RestoreCommand(t talos.Target, file string) string {
	return shellquote.Join("talosmate", "machineconfig", "apply", "-n", t.Address, "-f", file)
}
