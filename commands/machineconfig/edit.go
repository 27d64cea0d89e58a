package machineconfig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdEdit(f *cmdutil.Factory) *cobra.Command {
	var o changeOptions

	spec := changeSpec()
	spec.OneNode = true

	cmd := &cobra.Command{
		Use: "edit", Short: "Edit a node's machine configuration",
		Long: "Open a node's configuration, secrets included, in $EDITOR ($VISUAL, $TALOS_EDITOR), show the difference and\n" +
			"apply it. The file lies in a directory that only you can read, and is removed afterwards. An unchanged file\n" +
			"or an editor that fails changes nothing; a configuration that is not valid is not sent.\n\n" + modesLong,
		Example: "  talosmate machineconfig edit -n worker-1\n" +
			"  EDITOR='code --wait' talosmate mc edit -n cp-1 --mode try --try-timeout 5m",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			if err := o.check(); err != nil {
				return err
			}

			return o.change(c, func(ctx context.Context, n *talos.Node) ([]byte, error) {
				text, err := n.MachineConfig(ctx)
				if err != nil {
					return nil, err
				}

				edited, err := edit(ctx, c, text)
				if err != nil {
					return nil, err
				}

				return edited, showDifference(c, n, text, edited)
			})
		}),
	}

	f.Declare(cmd, spec)
	o.flags(cmd.Flags())
	cmdutil.CompleteChoices(cmd)

	return cmd
}

func editor(c *cmdutil.Call) []string {
	for _, name := range []string{"TALOS_EDITOR", "VISUAL", "EDITOR"} {
		if v, set := c.IO.Env(name); set && strings.TrimSpace(v) != "" {
			return strings.Fields(v)
		}
	}

	return []string{"vi"}
}

// editorEnds is how long an interrupted editor may take to end.
const editorEnds = 3 * time.Second

// edit lets the user's editor change the text.
func edit(ctx context.Context, c *cmdutil.Call, text []byte) ([]byte, error) {
	dir, err := os.MkdirTemp("", "talosmate-edit-")
	if err != nil {
		return nil, errs.New(errs.Failed, "cannot make a file to edit: %w", err)
	}

	defer os.RemoveAll(dir) //nolint:errcheck // the directory is private; what is left is the system's to clean

	path := filepath.Join(dir, "machineconfig.yaml")
	if err = os.WriteFile(path, text, 0o600); err != nil {
		return nil, errs.New(errs.Failed, "cannot make a file to edit: %w", err)
	}

	argv := append(editor(c), path)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the user's own editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.IO.In, c.IO.Err, c.IO.Err

	// Interrupted, it may put the terminal in order before it goes.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = editorEnds

	if c.IO.OutTTY {
		cmd.Stdout = c.IO.Out // an editor wants the terminal; without one, stdout is for the result
	}

	if err = cmd.Run(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, errs.Usagef("the editor %s failed: %w", argv[0], err).WithHint("nothing was changed; $EDITOR names another one")
	}

	edited, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.New(errs.Failed, "cannot read the edited file: %w", err)
	}

	if len(bytes.TrimSpace(edited)) == 0 {
		return nil, errs.Usagef("the edited file is empty: nothing is changed")
	}

	return edited, nil
}

// showDifference writes what was edited on stderr before anything is sent.
func showDifference(c *cmdutil.Call, n *talos.Node, before, after []byte) error {
	from, err := machineconfig.Parse(before)
	if err != nil {
		return n.Blame("read the machine configuration", err)
	}

	to, err := machineconfig.Parse(after)
	if err != nil {
		return err
	}

	for _, change := range machineconfig.Diff(from, to, false) {
		fmt.Fprintln(c.IO.Err, output.Cell(changeLine(change)))
	}

	return nil
}
