package fs

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type lsOptions struct {
	recurse bool
	depth   int
	types   []string
	pattern string
}

func newCmdLs(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &lsOptions{}

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "ls [PATH]", Aliases: []string{"list"}, Short: "List a directory of each node",
		Long: "List what is in a directory (/ by default), or the one file that PATH names. A file that the node cannot\n" +
			"read is a row with its error, and the exit code says so.",
		Example: "  talosmate fs ls /var/log -n cp-1\n" +
			"  talosmate fs ls /etc -A --recurse --type regular --pattern '*.conf' -o json --query '.items[].path'",
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: o.flags, Check: o.check, Complete: completePath,
	}, "FileList", cmdutil.NodeList[talos.File]{
		Columns: []output.Column[talos.File]{
			{Header: "MODE", Value: func(r talos.File) string { return r.Mode }},
			{Header: "OWNER", Wide: true, Value: owner},
			{Header: "SIZE", Value: func(r talos.File) string { return output.Bytes(r.SizeBytes) }},
			{Header: "MODIFIED", Value: modified},
			{Header: "PATH", Value: withLink},
			{Header: "ERROR", Wide: true, Value: func(r talos.File) string { return r.Error }},
		},
		Name:   func(r talos.File) string { return r.Path },
		Finish: failedFiles,
	}, o.fetch)
}

// withLink is a file's path and, of a symbolic link, where it leads.
func withLink(r talos.File) string {
	if r.Link == "" {
		return r.Path
	}

	return r.Path + " -> " + r.Link
}

func (o *lsOptions) flags(fs *cmdutil.Flags) {
	fs.BoolVarP(&o.recurse, "recurse", "r", false, "list subdirectories too")
	fs.IntVarP(&o.depth, "depth", "d", 0, "how many levels to list (implies --recurse); 0 for all with --recurse")
	fs.NotNegative("depth")
	fs.StringSliceVarP(&o.types, "type", "t", nil, "only files of these types: regular, directory, symlink")
	fs.Words("type", "regular", "directory", "symlink")
	fs.StringVar(&o.pattern, "pattern", "", "only files whose name matches this shell pattern; with a slash, whose path below PATH does")
}

func (o *lsOptions) check(c *cmdutil.Call) error {
	known := []string{talos.FileRegular, talos.FileDirectory, talos.FileSymlink}

	for i, t := range o.types {
		if full := slices.IndexFunc(known, func(k string) bool {
			return t == k || t == k[:1] || (t == "f" && k == talos.FileRegular) || (t == "l" && k == talos.FileSymlink)
		}); full >= 0 {
			o.types[i] = known[full]

			continue
		}

		return errs.Usagef("unknown file type %q", t).WithHint("types: %s", strings.Join(known, ", "))
	}

	if _, err := path.Match(o.pattern, ""); err != nil {
		return errs.Usagef("bad --pattern %q: %w", o.pattern, err)
	}

	return absolute(at(c.Args))
}

func at(args []string) string {
	if len(args) == 0 {
		return "/"
	}

	return args[0]
}

func (o *lsOptions) fetch(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]talos.File, error) {
	req := talos.ListRequest{Path: at(c.Args), Depth: 1, Types: o.types}

	switch {
	case o.depth > 0:
		req.Depth = o.depth
	case o.recurse:
		req.Depth = -1
	}

	files, err := n.ListFiles(ctx, req)

	return slices.DeleteFunc(files, func(f talos.File) bool {
		self := f.RelativePath == "." && f.Type == talos.FileDirectory && f.Error == ""

		return self || !o.matches(f)
	}), err
}

func (o *lsOptions) matches(f talos.File) bool {
	if o.pattern == "" {
		return true
	}

	name := path.Base(f.Path)
	if strings.Contains(o.pattern, "/") {
		name = f.RelativePath
	}

	ok, _ := path.Match(o.pattern, name) // the pattern was checked

	return ok
}

// failedFiles makes errors of the files that nodes could not read; their rows stay.
func failedFiles(rows []talos.File) ([]talos.File, error) {
	failed := &errs.Nodes{Succeeded: len(rows)}

	for _, r := range rows {
		if r.Error == "" {
			continue
		}

		e := errs.New(errs.Failed, "cannot look at %s on %s: %s", r.Path, r.NodeName(), r.Error).OnNode(r.Node)
		e.Hostname = r.Hostname
		failed.Errors = append(failed.Errors, e)
		failed.Succeeded--
	}

	if len(failed.Errors) == 0 {
		return rows, nil
	}

	return rows, failed
}

func owner(r talos.File) string {
	return strconv.FormatUint(uint64(r.UID), 10) + ":" + strconv.FormatUint(uint64(r.GID), 10)
}

func modified(r talos.File) string {
	if r.Modified == nil {
		return ""
	}

	return output.Time(*r.Modified)
}
