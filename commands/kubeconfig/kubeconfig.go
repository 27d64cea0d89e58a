// Package kubeconfig holds `talosmate kubeconfig`.
package kubeconfig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Kubeconfig is an admin kubeconfig that was written.
type Kubeconfig struct {
	talos.NodeRef

	Path        string `json:"path"`        // The file.
	Context     string `json:"context"`     // The context in it.
	Cluster     string `json:"cluster"`     // The cluster in it.
	User        string `json:"user"`        // The user in it.
	Server      string `json:"server"`      // The API server's address.
	Merged      bool   `json:"merged"`      // Whether it was merged into a file that was there.
	Overwritten bool   `json:"overwritten"` // Whether something was replaced.
	Renamed     bool   `json:"renamed"`     // Whether it got other names because of a clash.
}

type options struct {
	merge     bool
	name      string
	overwrite bool
	rename    bool
}

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &options{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "kubeconfig [PATH|-]", Short: "Fetch the cluster's admin kubeconfig",
		Long: "Fetch an admin kubeconfig from a control plane node: into a file (./kubeconfig by default), to stdout with\n" +
			"-, or with --merge into a file that holds other clusters ($KUBECONFIG or ~/.kube/config by default), whose\n" +
			"content stays. Files are written atomically, readable by their owner only. A kubeconfig that holds what Talos\n" +
			"does not write (a credential plugin, a path, a proxy, impersonation) is refused.",
		Example: "  talosmate kubeconfig --merge --context-name prod\n" +
			"  talosmate kubeconfig - > prod.kubeconfig",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultControlPlanes},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&o.merge, "merge", false, "add it to a kubeconfig and make it the current context")
			fs.StringVar(&o.name, "context-name", "", "the context's `name` (default: admin@CLUSTER)")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace the file, or with --merge the entries of the same name")
			fs.BoolVar(&o.rename, "rename", false, "with --merge: take another name where one is taken")
			fs.Exclusive("overwrite", "rename")
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[Kubeconfig]("Kubeconfig"), o.run)
}

func (o *options) run(c *cmdutil.Call) error {
	path := "kubeconfig"

	switch {
	case len(c.Args) > 0:
		path = c.Args[0]
	case o.merge:
		path = kube.KubeconfigPath(c.IO.Env)
	}

	if path == "-" {
		c.RawOutput()

		if o.merge {
			return errs.Usagef("--merge wants a file, not -")
		}
	}

	// what cannot be written is found before an admin's credentials are made
	there, err := o.look(path)
	if err != nil {
		return err
	}

	admin, node, err := fetch(c)
	if err != nil {
		return err
	}

	out, merged, err := kube.MergeKubeconfig(there, admin, o.name, o.clash())
	if err != nil {
		return err
	}

	if path == "-" && o.name == "" {
		out = admin.Raw
	}

	if path == "-" {
		_, err = c.IO.Out.Write(out)

		return err
	}

	if err = fsutil.WriteBytes(path, 0o600, out); err != nil {
		return err
	}

	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}

	result := Kubeconfig{
		Path: path, Context: merged.Context, Cluster: merged.Cluster, User: merged.User, Server: merged.Server,
		Merged: o.merge, Overwritten: merged.Overwrote || (!o.merge && o.overwrite), Renamed: merged.Renamed,
	}
	result.SetNode(node)

	return cmdutil.PrintResult(c, result, nil, path, func(w io.Writer, k Kubeconfig) error {
		_, err := fmt.Fprintf(w, "context %s (%s) is in %s\n", output.Line(k.Context), output.Line(k.Server), k.Path)

		return err
	})
}

// clash is what happens to a context of the same name.
func (o *options) clash() kube.OnClash {
	switch {
	case o.overwrite:
		return kube.Overwrite
	case o.rename:
		return kube.Rename
	default:
		return kube.Refuse
	}
}

// look reads the file to merge into, and refuses to replace a file without --overwrite.
func (o *options) look(path string) ([]byte, error) {
	if o.merge {
		return kube.ReadKubeconfig(path)
	}

	if o.rename {
		return nil, errs.Usagef("--rename needs --merge")
	}

	if _, err := os.Lstat(path); path != "-" && !o.overwrite && !errors.Is(err, os.ErrNotExist) {
		return nil, errs.Usagef("%s is there already", path).WithHint("give --overwrite to replace it, or --merge to add to it")
	}

	return nil, nil
}

// fetch asks the chosen control planes.
func fetch(c *cmdutil.Call) (kube.Admin, talos.Target, error) {
	targets, err := c.Targets()
	if err != nil {
		return kube.Admin{}, talos.Target{}, err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return kube.Admin{}, talos.Target{}, err
	}

	return cmdutil.AdminKubeconfig(c.Context(), cluster, targets.Nodes)
}
