package cluster

import (
	"errors"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmdState makes `talosmate state`.
func NewCmdState(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("state", "Save the cluster's state and compare two of them", nil, newCmdStateSave(f), newCmdStateDiff(f))
}

// SavedState is what was saved.
type SavedState struct {
	File    string `json:"file"`    // The file.
	Nodes   int    `json:"nodes"`   // How many nodes are in it.
	Healthy bool   `json:"healthy"` // Whether the cluster was healthy.
}

func newCmdStateSave(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "save FILE", Short: "Save the cluster's state to a file",
		Long: "Save what runs where and in which state to a file, as JSON without time stamps and counters: two files\n" +
			"differ only where the cluster did. With a part that could not be read the file is written without it and\n" +
			"the exit code is 4. `talosmate schema Fleet` has its fields.",
		Example: "  talosmate state save before.json\n" +
			"  talosmate state save after.json && talosmate state diff before.json after.json",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[SavedState]("StateSave"), func(c *cmdutil.Call) error {
		seen, err := gatherFleet(c, f.Now)
		if len(seen.Nodes) == 0 || c.Context().Err() != nil {
			return err
		}

		raw, encodeErr := fleet.Encode(seen)
		if encodeErr != nil {
			return encodeErr
		}

		if writeErr := fsutil.WriteBytes(c.Args[0], 0o600, raw); writeErr != nil {
			return errors.Join(err, writeErr)
		}

		saved := SavedState{File: c.Args[0], Nodes: len(seen.Nodes), Healthy: seen.Health.Healthy}

		return cmdutil.PrintResult(c, saved, err, saved.File, func(w io.Writer, s SavedState) error {
			_, err := fmt.Fprintf(w, "saved the state of %d nodes to %s\n", s.Nodes, output.Cell(s.File))

			return err
		})
	})
}

func newCmdStateDiff(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "diff A B", Short: "Compare two saved states",
		Long: "Compare two files of `talosmate state save`, path by path: + added, - removed, ~ changed. Nodes are\n" +
			"identified by hostname. Exit code 3 says that they differ.",
		Example: "  talosmate state diff before.json after.json\n" +
			"  talosmate state diff before.json after.json -o json --query '.items[] | select(.path == \"nodes.*.version\")'",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Offline: true, Question: true},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ListOf[machineconfig.Change]("StateDiff"), runStateDiff)
}

func runStateDiff(c *cmdutil.Call) error {
	raw := c.RawOutput()

	var files [2][]byte

	for i, name := range c.Args {
		var err error
		if files[i], err = c.Input(name, "the state"); err != nil {
			return err
		}

		if err = fleet.Check(name, files[i]); err != nil {
			return err
		}
	}

	changes, err := fleet.Diff(files[0], files[1])
	if err != nil {
		return err
	}

	if len(changes) > 0 {
		err = errs.New(errs.Negative, "the states differ (differences: %d)", len(changes)).WithKind(errs.KindNegative)
	}

	for _, ch := range changes {
		c.Annotate(cmdutil.ChangeFinding(ch, "drift", c.Args[0]))
	}

	if !raw {
		return cmdutil.PrintList(c, changes, err, []output.Column[machineconfig.Change]{}, func(d machineconfig.Change) string { return d.Path })
	}

	for _, ch := range changes {
		line := fmt.Sprintf("~ %s: %s -> %s", ch.Path, ch.From, ch.To)

		switch ch.Op {
		case machineconfig.Add:
			line = fmt.Sprintf("+ %s: %s", ch.Path, ch.To)
		case machineconfig.Remove:
			line = fmt.Sprintf("- %s: %s", ch.Path, ch.From)
		}

		if _, writeErr := fmt.Fprintln(c.IO.Out, output.Cell(line)); writeErr != nil {
			return errors.Join(err, writeErr)
		}
	}

	return err
}
