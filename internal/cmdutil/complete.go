package cmdutil

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/talos"
)

// CompletionFunc gives the candidates for an argument; it may ask the cluster, for at most two seconds.
type CompletionFunc func(ctx context.Context, c *Call, args []string) []string

// completion never falls back to file names: a name is wanted, not a file.
func completion(f *Factory, fn CompletionFunc) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if fn == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		return f.Complete(cmd, args, fn), cobra.ShellCompDirectiveNoFileComp
	}
}

// Complete runs a completion function against the cluster with a short deadline; trouble means no
// candidates.
func (f *Factory) Complete(cmd *cobra.Command, args []string, fn CompletionFunc) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()

	quiet := *f.IO
	quiet.Err = discard{}

	c := &Call{Spec: Spec{Kind: Read}, Cmd: cmd, Args: args, IO: &quiet, factory: f, ctx: ctx}
	if err := c.prepare(); err != nil {
		return nil
	}

	defer c.close()

	return offered(fn(ctx, c, args))
}

// offered leaves out the names that cannot be typed: a shell shows candidates as they are, one a line.
func offered(candidates []string) []string {
	var out []string

	for _, candidate := range candidates {
		name, description, described := strings.Cut(candidate, "\t")
		if !iostreams.Plain(name) {
			continue
		}

		if described {
			name = cobra.CompletionWithDesc(name, iostreams.Line(description))
		}

		out = append(out, name)
	}

	return out
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

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
		out = append(out, cobra.CompletionWithDesc(m.Hostname, m.Type+" "+m.Node), cobra.CompletionWithDesc(m.Node, m.Type+" "+m.Hostname))
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
	return func(ctx context.Context, c *Call, args []string) []string {
		if len(args) > 0 {
			return nil
		}

		c.Spec.Default = talos.DefaultEndpoint

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

// RegisterFlagCompletion makes a flag complete from a function, nil for nothing.
func RegisterFlagCompletion(f *Factory, cmd *cobra.Command, flag string, fn CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, completion(f, fn)) // fails only for a flag that does not exist, which the catalogue test finds
}

// changedFlags lists the flags that were given, in a form that can be logged.
func changedFlags(cmd *cobra.Command) []string {
	var out []string

	cmd.Flags().Visit(func(f *pflag.Flag) { out = append(out, "--"+f.Name+"="+f.Value.String()) })

	return out
}
