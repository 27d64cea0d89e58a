package cmdutil

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/startup"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// CompletionFunc gives the candidates for an argument; it may ask the cluster, for as long as completionLimit says.
type CompletionFunc func(ctx context.Context, c *Call, args []string) []string

// completion makes cobra's completion of the first most words out of a function, nil for nothing. It never falls
// back to file names unless the function asks for them.
func completion(f *Factory, most int, fn CompletionFunc) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if fn == nil || most != unbounded && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		return f.complete(cmd, args, typed, fn)
	}
}

// complete runs a completion function against the cluster with a short deadline; trouble means no candidates.
func (f *Factory) complete(cmd *cobra.Command, args []string, typed string, fn CompletionFunc) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit(f.IO.Env))
	defer cancel()

	startup.Over()

	quiet := *f.IO
	quiet.Err, quiet.InTTY = io.Discard, false // nobody is asked anything

	c := &Call{
		Spec: Spec{Kind: Read}, Cmd: cmd, Args: args, Typed: typed, IO: &quiet, factory: f, ctx: ctx, shell: cobra.ShellCompDirectiveNoFileComp,
	}
	if err := c.prepare(); err != nil {
		return nil, c.shell
	}

	defer c.close()

	return offered(fn(ctx, c, args)), c.shell
}

// EnvCompletionTimeout sets how long a completion may ask the cluster.
const EnvCompletionTimeout = "TALOSMATE_COMPLETION_TIMEOUT"

// completionLimit is two seconds, since somebody waits at a prompt, or what the environment says.
func completionLimit(env func(string) (string, bool)) time.Duration {
	value, _ := env(EnvCompletionTimeout)
	if limit, err := time.ParseDuration(value); err == nil && limit > 0 {
		return limit
	}

	return 2 * time.Second
}

// Words is a completion that offers the same words always.
func Words(words ...string) CompletionFunc {
	return func(context.Context, *Call, []string) []string { return words }
}

// Described is a candidate of a completion with its description.
func Described(word, description string) string { return cobra.CompletionWithDesc(word, description) }

// CompleteFiles leaves the completion to the shell, which offers files.
func CompleteFiles(_ context.Context, c *Call, _ []string) []string {
	c.shell = cobra.ShellCompDirectiveDefault

	return nil
}

// CompleteParts makes the shell write no space after a candidate, since it may be a part only.
func (c *Call) CompleteParts() { c.shell |= cobra.ShellCompDirectiveNoSpace }

// CompleteGates offers the codes of the gates that can be passed.
func CompleteGates(context.Context, *Call, []string) []string {
	passable := lists.Filter(gate.All(), func(g gate.Info) bool { return g.Overridable })

	return lists.Map(passable, func(g gate.Info) string { return Described(string(g.Code), g.Title) })
}

// offered omits the names that cannot be typed: a shell shows candidates as they are, one a line.
func offered(candidates []string) []string {
	var out []string

	for _, candidate := range candidates {
		name, description, described := strings.Cut(candidate, "\t")
		if !iostreams.Plain(name) {
			continue
		}

		if described {
			name = Described(name, iostreams.Line(description))
		}

		out = append(out, name)
	}

	return out
}

// CompleteNodes offers hostnames and addresses of the discovered members.
func CompleteNodes(ctx context.Context, c *Call, _ []string) []string {
	cluster, err := c.Cluster()
	if err != nil {
		return nil
	}

	members, err := cluster.Members(ctx)
	if err != nil {
		return nil
	}

	var out []string

	for _, m := range members {
		out = append(out, Described(m.Hostname, m.Type+" "+m.Node), Described(m.Node, m.Type+" "+m.Hostname))
	}

	return out
}

// CompleteContexts offers the talosconfig's contexts.
func CompleteContexts(_ context.Context, c *Call, _ []string) []string {
	cfg, err := c.factory.LoadTalosconfig(c.Cmd.Flags())
	if err != nil {
		return nil
	}

	return cfg.ContextNames()
}

// CompleteFrom asks the first chosen or default node for names.
func CompleteFrom(names func(context.Context, *talos.Node) ([]string, error)) CompletionFunc {
	return func(ctx context.Context, c *Call, _ []string) []string {
		c.Spec.Default = target.DefaultEndpoint

		targets, err := c.Targets()
		if err != nil {
			return nil
		}

		out, err := names(ctx, c.cluster.Node(targets.Nodes[0]))
		if err != nil {
			return nil
		}

		return out
	}
}

// changedFlags lists the flags that were given, in a form that can be logged.
func changedFlags(cmd *cobra.Command) []string {
	var out []string

	cmd.Flags().Visit(func(f *pflag.Flag) {
		if _, old := f.Value.(*alias); !old {
			out = append(out, "--"+f.Name+"="+f.Value.String())
		}
	})

	return out
}
