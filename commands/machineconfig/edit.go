package machineconfig

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdEdit(f *cmdutil.Factory) *cmdutil.Cmd {
	var o partOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "edit", Short: "Edit a node's machine configuration",
		Long: "Open a node's configuration, secrets included, in $EDITOR ($VISUAL, $TALOS_EDITOR), show the difference and\n" +
			"apply it. The file lies in a directory that only you can read, and is removed afterwards, unless what was\n" +
			"edited could not be applied: then it is kept, and said where. An unchanged file or an editor that fails changes\n" +
			"nothing; a configuration that is not valid is not sent.\n\n" + modesLong,
		Example: "  talosmate machineconfig edit -n worker-1\n" +
			"  EDITOR='code --wait' talosmate mc edit -n cp-1 --mode try --try-timeout 5m",
		Spec:  cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), OneNode: true},
		Flags: o.flags, Check: o.check,
	}, changed(), func(c *cmdutil.Call) error {
		var d draft

		err := o.change(c, func(ctx context.Context, n *talos.Node) ([]byte, error) {
			text, err := o.base(ctx, n)
			if err != nil {
				return nil, err
			}

			if d, err = newDraft(text); err != nil {
				return nil, err
			}

			edited, err := d.edit(ctx, c)
			if err != nil {
				return nil, err
			}

			return edited, showDifference(c, n, text, edited)
		})
		d.close(c, err)

		return err
	})
}

// editor is the user's editor with its arguments. One that is written with quotes or variables is the shell's to read.
func editor(c *cmdutil.Call) []string {
	for _, name := range []string{"TALOS_EDITOR", "VISUAL", "EDITOR"} {
		v, set := c.IO.Env(name)

		switch {
		case !set || strings.TrimSpace(v) == "":
		case strings.ContainsAny(v, `"'\$`) && runtime.GOOS != "windows":
			return []string{"sh", "-c", "exec " + v + ` "$@"`, name}
		default:
			return strings.Fields(v)
		}
	}

	return []string{"vi"}
}

// editorEnds is how long an interrupted editor may take to end.
const editorEnds = 3 * time.Second

// draft is a file that is edited, in a directory of its own.
type draft struct {
	path string
	text []byte // As it was.
}

func newDraft(text []byte) (draft, error) {
	dir, err := os.MkdirTemp("", "talosmate-edit-")
	if err != nil {
		return draft{}, errs.New(errs.Failed, "cannot make a file to edit: %w", err)
	}

	d := draft{path: filepath.Join(dir, "machineconfig.yaml"), text: text}
	if err = os.WriteFile(d.path, text, 0o600); err != nil {
		return d, errs.New(errs.Failed, "cannot make a file to edit: %w", err)
	}

	return d, nil
}

// close removes the file, unless there is work in it that would be lost.
func (d draft) close(c *cmdutil.Call, failed error) {
	if d.path == "" {
		return
	}

	edited, err := fsutil.ReadFile(d.path, fsutil.MaxText)
	if failed != nil && err == nil && len(bytes.TrimSpace(edited)) > 0 && !bytes.Equal(edited, d.text) {
		c.Warn("what you edited is kept in %s, with the cluster's secrets: fix it and give it to `talosmate machineconfig apply -f`, then remove it", d.path)

		return
	}

	_ = os.RemoveAll(filepath.Dir(d.path)) // the directory is private; what is left is the system's to clean
}

// edit lets the user's editor change the text.
func (d draft) edit(ctx context.Context, c *cmdutil.Call) ([]byte, error) {
	argv := append(editor(c), d.path)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // G204: the editor that the user chose, with the name of our own file as an argument
	stdout, stderr := c.IO.Unguarded()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.IO.In, stderr, stderr

	// Interrupted, it may put the terminal in order before it ends.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = editorEnds

	if c.IO.OutTTY {
		cmd.Stdout = stdout // an editor wants the terminal; without one, stdout is for the result
	}

	if err := cmd.Run(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	} else if err != nil {
		return nil, errs.Usagef("the editor %s failed: %w", argv[0], err).WithHint("nothing was changed; $EDITOR names another one")
	}

	edited, err := fsutil.ReadFile(d.path, fsutil.MaxText)
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
		if err := writeChange(c.IO.Err, "", change); err != nil {
			return err
		}
	}

	return nil
}
