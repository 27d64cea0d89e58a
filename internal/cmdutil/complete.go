package cmdutil

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/release"

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

// completion makes cobra's completion of a flag, or of the first most words, out of a function, nil for nothing. It never falls
// back to file names unless the function asks for them.
func completion(f *Factory, flag string, most int, fn CompletionFunc) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if fn == nil || most != unbounded && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}

		return f.complete(cmd, flag, args, typed, fn)
	}
}

// complete runs a completion function against the cluster with a short deadline; trouble means no candidates. Whatever
// does not heed the deadline is left behind: the process ends with the answer.
func (f *Factory) complete(cmd *cobra.Command, flag string, args []string, typed string, fn CompletionFunc) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit(f.IO.Env))
	defer cancel()

	startup.Over()

	type answer struct {
		candidates []string
		shell      cobra.ShellCompDirective
	}

	answered := make(chan answer, 1)

	go func() {
		a := answer{shell: cobra.ShellCompDirectiveNoFileComp}
		_ = errs.Safely(func() error { // a panic means no candidates either
			a.candidates, a.shell = f.candidates(ctx, cmd, flag, args, typed, fn)

			return nil
		})
		answered <- a
	}()

	select {
	case a := <-answered:
		return a.candidates, a.shell
	case <-ctx.Done():
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func (f *Factory) candidates(ctx context.Context, cmd *cobra.Command, flag string, args []string, typed string, fn CompletionFunc) ([]string, cobra.ShellCompDirective) {
	quiet := *f.IO
	quiet.In, quiet.Err, quiet.InTTY = strings.NewReader(""), io.Discard, false // nobody is asked anything

	own := *f
	own.IO = &quiet

	c := &Call{
		Spec: Spec{Kind: Read}, Cmd: cmd, Args: args, Typed: typed, completes: flag, IO: &quiet, factory: &own, ctx: ctx, shell: cobra.ShellCompDirectiveNoFileComp,
	}
	if err := c.prepareCompletion(); err != nil {
		return nil, c.shell
	}

	defer c.close()

	return offered(fn(ctx, c, args)), c.shell
}

// prepareCompletion is prepare without the output: what is typed of -o may be half a format.
func (c *Call) prepareCompletion() error {
	if err := resolveAliases(c.Cmd.Flags()); err != nil {
		return err
	}

	c.Printer = &output.Printer{Out: io.Discard, Now: c.factory.Now}

	return c.loadSettings()
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

// afterComma completes the last of several values that are separated by commas, and offers none twice.
func afterComma(fn CompletionFunc) CompletionFunc {
	return func(ctx context.Context, c *Call, args []string) []string {
		at := strings.LastIndexByte(c.Typed, ',') + 1
		before := c.Typed[:at]
		c.Typed = c.Typed[at:]

		have := strings.Split(before, ",")
		left := lists.Filter(fn(ctx, c, args), func(candidate string) bool {
			name, _, _ := strings.Cut(candidate, "\t")

			return !slices.Contains(have, name)
		})

		return lists.Map(left, func(candidate string) string { return before + candidate })
	}
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
	return c.members(ctx, func(m talos.Member) []string {
		return []string{Described(m.Hostname, m.Type+" "+m.Node), Described(m.Node, m.Type+" "+m.Hostname)}
	})
}

// completeEndpoints offers the addresses of the control planes.
func completeEndpoints(ctx context.Context, c *Call, _ []string) []string {
	return c.members(ctx, func(m talos.Member) []string {
		if m.Type != target.ControlPlane {
			return nil
		}

		return []string{Described(m.Node, m.Hostname)}
	})
}

func (c *Call) members(ctx context.Context, show func(talos.Member) []string) []string {
	return c.cached("members", func() ([]string, error) {
		cluster, err := c.Cluster()
		if err != nil {
			return nil, err
		}

		members, err := cluster.Members(ctx)

		return slices.Concat(lists.Map(members, show)...), err
	})
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
		key := "node"
		if c.shell&cobra.ShellCompDirectiveNoSpace != 0 {
			key += " " + c.Typed // the answer depends on the beginning
		}

		return c.cached(key, func() ([]string, error) {
			c.Spec.Default = target.DefaultEndpoint

			targets, err := c.Targets()
			if err != nil {
				return nil, err
			}

			return names(ctx, c.cluster.Node(targets.Nodes[0]))
		})
	}
}

// completeOutput offers the formats; behind jsonpath= and similar, an expression for each field of the document.
func completeOutput(_ context.Context, c *Call, _ []string) []string {
	fields, list := c.fields()
	rows, item := ".result", "{{.result.%s}}"

	if list {
		rows, item = ".items[*]", "{{range.items}}{{.%s}} {{end}}"
	}

	forms := map[string]string{"jsonpath": "{" + rows + ".%s}", "go-template": strings.ReplaceAll(item, " ", "{{println}}"), "custom-columns": "%s:.%s"}

	for _, view := range output.Views() {
		if form := forms[view]; strings.HasPrefix(c.Typed, view+"=") {
			return lists.Map(fields, func(field string) string {
				if view == "custom-columns" {
					return view + "=" + fmt.Sprintf(form, strings.ToUpper(field), field)
				}

				return view + "=" + fmt.Sprintf(form, field)
			})
		}
	}

	formats := output.Formats()
	for _, view := range output.Views() {
		formats = append(formats, view+"=", view+"-file=")
	}

	fitting := lists.Filter(formats, func(format string) bool { return strings.HasPrefix(format, c.Typed) })
	if !slices.ContainsFunc(fitting, func(format string) bool { return !strings.HasSuffix(format, "=") }) {
		c.CompleteParts()
	}

	return fitting
}

// completeSortBy offers the fields of the document, ascending, and descending once a - is typed.
func completeSortBy(_ context.Context, c *Call, _ []string) []string {
	fields, list := c.fields()
	if !list {
		return nil
	}

	return append(fields, lists.Map(fields, func(field string) string { return "-" + field })...)
}

// fields names the fields of the command's document, of each row or of the result.
func (c *Call) fields() (names []string, list bool) {
	spec, ok := SpecOf(c.Cmd)
	if !ok || spec.Schema == "" {
		return nil, false
	}

	return output.Fields(c.factory.documents[spec.Schema])
}

// CompleteTalosVersions offers the releases that this program was made for.
func CompleteTalosVersions(context.Context, *Call, []string) []string {
	return release.Tags()
}

// completeKubeContexts offers the contexts of the kubeconfig.
func completeKubeContexts(_ context.Context, c *Call, _ []string) []string {
	path, _ := c.Cmd.Flags().GetString("kubeconfig")
	if path == "" {
		path = kube.KubeconfigPath(c.IO.Env)
	}

	return kube.Contexts(path)
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
