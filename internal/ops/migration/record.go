package migration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
)

// record is what a run that was broken off leaves for the next one: it is written before a configuration is sent, and
// removed when the node is verified or has its former configuration back.
type record struct {
	File   string   `json:"file"`   // The former configuration.
	Sent   string   `json:"sent"`   // The configuration that was sent.
	Before content  `json:"before"` // What the node made of the former one.
	Known  []string `json:"known"`  // The node's problems before.
}

// backups keep former configurations and the records of runs in a directory.
type backups struct{ dir string }

func (b backups) name(t talos.Target) (string, error) { return fsutil.Element(t.Name()) }

// keep writes the configuration of a node to a file that is named by its content, so that nothing ever replaces it.
func (b backups) keep(t talos.Target, text []byte) (string, error) {
	name, err := b.name(t)
	if err != nil {
		return "", err
	}

	sum := sha256.Sum256(text)
	path := filepath.Join(b.dir, name+"-"+hex.EncodeToString(sum[:6])+".yaml")

	if there, err := fsutil.ReadFile(path, fsutil.MaxText); err == nil && string(there) == string(text) {
		return path, nil
	}

	return path, fsutil.WriteBytes(path, 0o600, text)
}

func (b backups) path(t talos.Target) (string, error) {
	name, err := b.name(t)

	return filepath.Join(b.dir, name+".migration.json"), err
}

// read reads the record of a node; found is false when there is none.
func (b backups) read(t talos.Target) (r record, found bool, err error) {
	path, err := b.path(t)
	if err != nil {
		return r, false, err
	}

	text, err := fsutil.ReadFile(path, fsutil.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}

	if err == nil {
		err = foreign.JSON(text, &r)
	}

	if err != nil {
		return r, false, errs.New(errs.Failed, "cannot read the record of an earlier migration of %s: %w", t.Name(), err).
			WithHint("it is %s: without it, the node is migrated or verified from its present state", path)
	}

	return r, true, nil
}

// write writes the record of a node durably.
func (b backups) write(t talos.Target, r record) error {
	path, err := b.path(t)
	if err != nil {
		return err
	}

	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write the record of the migration: %w", err)
	}

	return fsutil.WriteBytes(path, 0o600, text)
}

// remove removes the record of a node.
func (b backups) remove(t talos.Target) error {
	path, err := b.path(t)
	if err == nil {
		err = os.Remove(path)
	}

	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// same reports whether two configurations say the same, whatever their form on the page.
func same(a, b []byte) bool {
	x, errX := machineconfig.Parse(a)
	y, errY := machineconfig.Parse(b)

	return errX == nil && errY == nil && len(machineconfig.Diff(x, y, false)) == 0
}

// restoreCommand is the command line that gives a node a configuration back.
func restoreCommand(t talos.Target, file string) string {
	if strings.ContainsAny(file, " \t\n'\"\\$&;|<>()*?[]#~`!{}") {
		file = "'" + strings.ReplaceAll(file, "'", `'\''`) + "'"
	}

	return fmt.Sprintf("talosmate machineconfig apply -n %s -f %s", t.Address, file)
}
