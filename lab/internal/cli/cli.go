// Package cli is the command line of talosmate-lab.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/lab/internal/cluster"
)

// streams are the streams of a command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// exitError carries the exit code of a command that was run in the lab.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot(&streams{in: in, out: out, err: errOut})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)

	err := root.ExecuteContext(ctx)

	var exit exitError

	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	default:
		fmt.Fprintln(errOut, "talosmate-lab:", err) //nolint:errcheck

		return 1
	}
}

func newRoot(s *streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "talosmate-lab",
		Short:         "A simulated Talos Linux cluster on loopback addresses",
		SilenceUsage:  true,
		SilenceErrors: true,
	}

	var dir string

	root.PersistentFlags().StringVar(&dir, "dir", defaultDir(), "directory of the lab (TALOSMATE_LAB_DIR)")
	root.AddCommand(newUp(s, &dir), newDown(s, &dir), newStatus(s, &dir), newRun(s, &dir), newCtl(s, &dir))

	return root
}

// defaultDir is the directory of a lab when none is given.
func defaultDir() string {
	if dir := os.Getenv("TALOSMATE_LAB_DIR"); dir != "" {
		return dir
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}

	return filepath.Join(cache, "talosmate", "lab", "default")
}

func (s *streams) json(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")

	return enc.Encode(v)
}

// running reads the description of the lab in a directory.
func running(dir string) (cluster.Description, error) {
	d, err := cluster.ReadDescription(dir)
	if errors.Is(err, os.ErrNotExist) {
		return d, fmt.Errorf("no lab runs in %s: start one with talosmate-lab up", dir)
	}

	return d, err
}
