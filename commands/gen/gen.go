// Package gen holds `talosmate gen`: what a new cluster starts from.
package gen

import (
	"errors"
	"os"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("gen", "Make secrets and configurations of a new cluster", []string{"generate"}, newCmdSecrets(f), newCmdConfig(f))
}

// File is a file that was made.
type File struct {
	Type      string `json:"type"`       // secrets, controlplane, worker or talosconfig.
	Path      string `json:"path"`       // Where it is.
	SizeBytes int    `json:"size_bytes"` // Its size.
}

// vacant refuses to replace files: they may hold the only copy of a cluster's secrets.
func vacant(overwrite bool, paths ...string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); !overwrite && !errors.Is(err, os.ErrNotExist) {
			return errs.Usagef("%s is there already", path).WithHint("give --overwrite to replace it")
		}
	}

	return nil
}
