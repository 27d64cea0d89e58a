package config

import (
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
	"github.com/talosmate/talosmate/internal/talos/config"
)

// Edit is what an edit of the talosconfig did.
type Edit struct {
	ConfigPath     string               `json:"config_path"`      // The file.
	CurrentContext string               `json:"current_context"`  // The current context after the edit.
	Context        string               `json:"context"`          // The context that was edited.
	Action         string               `json:"action"`           // used, added, removed, merged, endpoints or nodes.
	Values         []string             `json:"values"`           // The new endpoints or nodes, where they were set.
	Merged         []talosconfig.Merged `json:"merged"`           // What became of each context of a merge.
	Backup         string               `json:"backup,omitempty"` // The copy of the file as it was.
	DryRun         bool                 `json:"dry_run"`          // Whether nothing was written.
}

// edit is the shape of a command that changes the talosconfig and nothing else.
type edit struct {
	Backup bool // The file is kept as PATH.bak.
	Apply  func(c *cmdutil.Call, file *talosconfig.File) (Edit, error)
}

func newEdit(f *cmdutil.Factory, d cmdutil.Command, e edit) *cmdutil.Cmd {
	d.Spec = cmdutil.Spec{Kind: cmdutil.Change, Offline: true}

	return cmdutil.New(f, d, cmdutil.ResultOf[Edit]("ConfigEdit"), func(c *cmdutil.Call) error {
		path, err := f.EditableTalosconfig(c.Cmd.Flags())
		if err != nil {
			return err
		}

		file, err := talosconfig.Open(path)
		if err != nil {
			return err
		}

		result, err := e.Apply(c, file)
		if err != nil {
			return err
		}

		if err = usable(file, result); err != nil {
			return err
		}

		if !c.DryRun {
			if err = c.Begin(); err != nil {
				return err
			}

			if result.Backup, err = file.Save(e.Backup); err != nil {
				return err
			}
		}

		result.ConfigPath, result.CurrentContext, result.DryRun = path, file.Current(), c.DryRun
		result.Values, result.Merged = append([]string{}, result.Values...), append([]talosconfig.Merged{}, result.Merged...)

		return cmdutil.PrintResult(c, result, nil, result.Context, showEdit)
	})
}

// usable makes sure that commands can read the edited talosconfig. Removing a context may be the way to that.
func usable(file *talosconfig.File, e Edit) error {
	if e.Action == "removed" {
		return nil
	}

	raw, err := file.Bytes()
	if err != nil {
		return err
	}

	current := ""
	if e.Action == "used" {
		current = e.Context
	}

	return config.Check(raw, file.Path, current)
}

func showEdit(w io.Writer, e Edit) error {
	done := map[string]string{
		"used": "current context", "added": "added", "removed": "removed", "merged": "merged", "endpoints": "endpoints of", "nodes": "nodes of",
	}[e.Action]

	text := fmt.Sprintf("%s %s", done, e.Context)
	if len(e.Values) > 0 {
		text += fmt.Sprintf(": %v", e.Values)
	}

	for _, m := range e.Merged {
		text += fmt.Sprintf("\n%s %s", m.Action, m.Context)
		if m.As != "" && m.As != m.Context {
			text += " as " + m.As
		}
	}

	if e.DryRun {
		text += "\n(dry run: nothing was written)"
	}

	_, err := fmt.Fprintf(w, "%s\n", text)

	return err
}

// contextOf is the context that an edit is of: --context, else the current one.
func contextOf(c *cmdutil.Call, file *talosconfig.File) string {
	if name, _ := c.Cmd.Flags().GetString("context"); name != "" {
		return name
	}

	return file.Current()
}
