// Package mcp serves the commands as tools of the Model Context Protocol. A tool call is a command line that runs in
// process, within the limits that the user gave the server.
package mcp

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// NewCmd makes `talosmate mcp`.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.Group("mcp", "Serve the commands to an agent as tools (Model Context Protocol)", nil, newCmdServe(f))
}

// options are the flags of `mcp serve`.
type options struct {
	changes  bool
	secrets  bool
	nodes    []string
	contexts []string
	files    string
	tools    []string
	compat   bool
	maxBytes int
}

func newCmdServe(f *cmdutil.Factory) *cmdutil.Cmd {
	var o options

	return cmdutil.New(f, cmdutil.Command{
		Use: "serve", Short: "Serve tools over stdin and stdout",
		Long: "Serve one tool per command over stdin and stdout. A tool's result is the command's document with its exit\n" +
			"code. The tools only read unless --allow-changes is given; a destructive one wants yes: true even then. They\n" +
			"work on the current context, or on those of --contexts, and read and write no file of this machine but those\n" +
			"in the directory of --files. The global flags of the server, such as --talosconfig and --timeout, hold for\n" +
			"every tool. Logs are written to stderr.\n\n" +
			"A client that cancels a call, or closes the connection, interrupts the command as Ctrl-C does.",
		Example: "  talosmate mcp serve --contexts prod,staging\n" +
			"  talosmate mcp serve --allow-changes --allow-nodes worker-1,10.0.0.0/24 --tools 'health,service_*,node_*'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&o.changes, "allow-changes", false, "offer the tools that change something")
			fs.BoolVar(&o.secrets, "allow-secrets", false, "offer what may show secrets: fs_read, and the argument show_secrets")
			fs.StringSliceVar(&o.nodes, "allow-nodes", nil, "refuse every other node: addresses, networks (10.0.0.0/24), Talos hostnames")
			fs.StringSliceVar(&o.contexts, "contexts", nil, "the talosconfig contexts that may be used; the first is the default")
			fs.StringVar(&o.files, "files", "", "the one `directory` where tools may read and write files, by plain names")
			fs.StringSliceVar(&o.tools, "tools", nil, "offer only the tools with these names; * stands for any text, ! before a name omits it")
			fs.BoolVar(&o.compat, "compat", false, "also offer tools under the names of other Talos servers: talos_health, talos_upgrade, …")
			fs.IntVar(&o.maxBytes, "max-bytes", 64<<10, "a longer result is cut, and kept as a resource")
			fs.Complete("allow-nodes", cmdutil.CompleteNodes)
			fs.Complete("contexts", cmdutil.CompleteContexts)
		},
	}, cmdutil.NoDocument(), func(c *cmdutil.Call) error {
		s, err := newServer(f, c, o)
		if err != nil {
			return err
		}

		return s.serve(c)
	})
}

// newServer checks the options and makes the server; nothing is read or dialled.
func newServer(f *cmdutil.Factory, c *cmdutil.Call, o options) (*server, error) {
	flags := c.Cmd.Flags()

	if path, _ := flags.GetString("talosconfig"); path == "-" {
		return nil, errs.Usagef("the talosconfig cannot come from stdin: the protocol does").WithHint("name a file with --talosconfig")
	}

	if o.maxBytes < minBytes {
		return nil, errs.Usagef("--max-bytes must be %d or more", minBytes)
	}

	nodes, err := target.ParseAllowed(o.nodes)
	if err != nil {
		return nil, err
	}

	if flags.Changed("allow-nodes") && len(nodes) == 0 {
		return nil, errs.Usagef("--allow-nodes holds an empty name").WithHint("is a variable of your script empty?")
	}

	for _, name := range o.contexts {
		if strings.TrimSpace(name) == "" {
			return nil, errs.Usagef("--contexts holds an empty name").WithHint("is a variable of your script empty?")
		}
	}

	if flags.Changed("contexts") && len(o.contexts) == 0 {
		return nil, errs.Usagef("--contexts holds an empty name").WithHint("is a variable of your script empty?")
	}

	if name, _ := flags.GetString("context"); flags.Changed("context") && len(o.contexts) > 0 {
		return nil, errs.Usagef("--context %s and --contexts are two answers to one question", name).WithHint("the first of --contexts is the default")
	}

	if o.files != "" {
		if o.files, err = filepath.Abs(o.files); err != nil {
			return nil, errs.Usagef("cannot use --files: %w", err)
		}
	}

	if readOnly, _ := flags.GetBool("read-only"); readOnly && o.changes {
		return nil, errs.Usagef("--allow-changes, and changes are switched off by --read-only or $TALOSMATE_READ_ONLY").WithHint("give one of them")
	}

	all, err := toolsOf(c.Tree(), o)
	if err != nil {
		return nil, err
	}

	s := &server{
		execute: f.Execute, env: c.IO.Env, options: o, nodes: nodes, tools: all, build: f.Build, inherited: inherited(flags),
		log: newLog(c.IO.Err), slots: make(chan struct{}, maxCalls), results: newResults(),
	}

	if s.execute == nil {
		return nil, fmt.Errorf("this program cannot run commands in process")
	}

	return s, nil
}
