package cmdutil

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/annotation"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/startup"
	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Build is what the linker says about this binary.
type Build struct {
	Version string
	Commit  string
	Date    string
}

// Factory hands out what commands need. Everything is a function: help and completion call none of them.
type Factory struct {
	IO    *iostreams.Streams
	Build Build
	Now   func() time.Time

	// Kubernetes makes access to the cluster's Kubernetes API; tests replace it.
	Kubernetes func(context.Context, kube.Access) (*kube.Client, error)

	// Tree is the whole command tree, for what looks at other commands: the root of a running one may hold no other. Package
	// commands sets it.
	Tree func() *cobra.Command

	// Execute runs a command line of this program in process, on streams of its own and within limits, and returns its
	// exit code. Package app sets it.
	Execute func(ctx context.Context, args []string, io *iostreams.Streams, limits Limits) int
	// Limits bound what the command line may touch, beside what the user's settings say.
	Limits Limits

	documents   map[string]any                       // The document type of each schema, filled while the tree is built.
	completions map[*pflag.Flag]cobra.CompletionFunc // How flags complete, filled while the tree is built.
	run         *Call                                // The running command, for the error document.
}

// Limits are what a command line may touch that another program's request became.
type Limits struct {
	Nodes    target.Allowed // The nodes that may be asked; empty for all.
	Contexts []string       // The talosconfig contexts that may be used; empty for all.
	NoFiles  bool           // Whether no file that an argument names is read.
	Progress progress.Sink  // Where long work tells what it does; nil for stderr.
}

// allowedNodes is the flag that names the nodes which may be asked.
const allowedNodes = "allowed-nodes"

// NewFactory makes the factory of a process.
func NewFactory(io *iostreams.Streams, b Build) *Factory {
	return &Factory{IO: io, Build: b, Now: time.Now, Kubernetes: kube.Connect, completions: map[*pflag.Flag]cobra.CompletionFunc{}, documents: map[string]any{
		"ProgressEvent": progress.Event{}, // no command's document: a line of --progress json
		usageError:      output.List[struct{}]{},
	}}
}

// Documents gives a value of each schema's document type.
func (f *Factory) Documents() map[string]any {
	f.Tree() // each command adds its own

	return f.documents
}

// Running is the command that got as far as running, nil before.
func (f *Factory) Running() *Call { return f.run }

// AddGlobalFlags puts the flags that every command has on the root command.
func AddGlobalFlags(f *Factory, root *cobra.Command) {
	fs := &Flags{FlagSet: root.PersistentFlags(), factory: f}
	fs.String("talosconfig", "", "talosconfig `file`, - for stdin (default: $TALOSCONFIG, the project's talosconfig, ~/.talos/config)")
	fs.String("context", "", "talosconfig context `name`")
	fs.StringSliceP("endpoints", "e", nil, "override the context's endpoints")
	fs.StringSliceP("nodes", "n", nil, "nodes to act on: address, Talos hostname or Kubernetes node name")
	fs.Bool("controlplanes", false, "act on all control plane nodes")
	fs.Bool("workers", false, "act on all workers")
	fs.BoolP("all-nodes", "A", false, "act on all nodes")
	fs.Bool("direct", false, "dial each node itself instead of going through an endpoint")
	fs.Int("concurrency", 16, "how many nodes to ask at once")
	fs.Duration("timeout", 30*time.Second, "how long to wait for one node's answer")
	fs.StringP("output", "o", "table", "output format: table, wide, json, yaml, ndjson, name, or as kubectl has them jsonpath=…, go-template=…, custom-columns=…")
	fs.String("query", "", "yq `expression` over the document (implies -o json)")
	fs.Bool("no-headers", false, "omit the table's header")
	fs.String("sort-by", "", "sort rows by this `field` of -o json, -field for descending")
	fs.Int(maxItems, 0, "cut a list after this many items, and say how to narrow it (0: never)")
	fs.String(maxBytes, "", "cut what is longer than this `size` (8KiB, 20000) to whole items, and say how to narrow it")
	fs.NotNegative(maxItems)
	fs.Bool("no-color", false, "no colour")
	fs.BoolP("verbose", "v", false, "trace each RPC on stderr")
	fs.Bool("read-only", false, "refuse every change")
	fs.StringSlice(allowedNodes, nil, "refuse every other node: addresses, networks (10.0.0.0/24), Talos hostnames")
	fs.String("audit-log", "", "append two JSON lines per change to this `file`: when it begins and how it ended")
	fs.Choice(new(string), "progress", progress.Modes()[0], "how to show progress on stderr", progress.Modes()...)
	fs.Choice(new(string), "annotations", "none", "write errors and findings to stderr for a CI system too", "none", annotation.GitHub)
	fs.String("kubeconfig", "", "kubeconfig `file` for the Kubernetes steps (default: the admin kubeconfig from the Talos API)")
	fs.String("kube-context", "", "context `name` in the kubeconfig")
	fs.Complete("nodes", CompleteNodes)
	fs.Complete("context", CompleteContexts)
	fs.Complete("endpoints", completeEndpoints)
	fs.Complete("output", completeOutput)
	fs.Complete("sort-by", completeSortBy)
	fs.Complete("kube-context", completeKubeContexts)
	fs.Complete(allowedNodes, CompleteNodes)
}

// runE makes a cobra RunE of a command's body: settings, format and safety come first, the audit log last.
func (f *Factory) runE(s Spec, body func(*Call) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c := &Call{Spec: s, Cmd: cmd, Args: args, IO: f.IO, factory: f, ctx: cmd.Context()}

		if s.Kind != Read {
			// A change continues to its end when nobody reads its result.
			f.IO.Out = iostreams.UntilClosed(f.IO.Out)
		}

		if err := c.prepare(); err != nil {
			return err
		}

		f.run = c

		defer c.close()

		if err := c.openAudit(); err != nil {
			return err
		}

		err := c.guard()
		if err == nil {
			startup.Over()

			err = errs.Safely(func() error { return body(c) })
		}

		return c.EndAudit(c.settle(err))
	}
}

func (f *Factory) printer(flags *pflag.FlagSet, s Spec) (*output.Printer, error) {
	name, _ := flags.GetString("output")

	view, err := output.ParseView(name, func(path string) ([]byte, error) { return f.input(path, "the expression of -o") })
	if view != nil {
		name = string(output.JSON)
	}

	if err != nil {
		return nil, errs.AsUsage(err)
	}

	format, err := output.ParseFormat(name)
	if err != nil {
		return nil, errs.AsUsage(err)
	}

	p := &output.Printer{Out: f.IO.Out, Format: format, Schema: s.Schema, Single: s.single, Change: s.Kind != Read, Question: s.Question, Now: f.Now}
	p.Query, _ = flags.GetString("query")
	p.NoHeaders, _ = flags.GetBool("no-headers")
	p.SortBy, _ = flags.GetString("sort-by")

	if p.View = view; view != nil && p.Query != "" {
		return nil, errs.Usagef("--query and an expression of -o are two answers to one question").WithHint("give one of them")
	}

	if p.Query != "" && !format.Structured() {
		p.Format = output.JSON
	}

	p.Limit, err = limitOf(flags, s)

	return p, err
}

func (f *Factory) lookup(flags *pflag.FlagSet) config.Lookup {
	flag, _ := flags.GetString("talosconfig")
	dir, _ := os.Getwd() // without a working directory there is no project either

	return config.Lookup{Flag: flag, Env: f.IO.Env, Stdin: f.IO.In, WorkingDir: dir}
}

// LoadTalosconfig finds and reads the talosconfig as the flags say.
func (f *Factory) LoadTalosconfig(flags *pflag.FlagSet) (*config.Config, error) {
	return config.Load(f.lookup(flags))
}

func (f *Factory) progress(mode string) progress.Sink {
	if f.Limits.Progress != nil {
		return f.Limits.Progress
	}

	return progress.New(mode, f.IO.Err, progress.Screen{TTY: f.IO.ErrTTY && f.IO.Color, Width: f.IO.Width, Height: f.IO.Height})
}
