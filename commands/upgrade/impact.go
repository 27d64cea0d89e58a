package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/annotation"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/ops/impact"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdImpact(f *cmdutil.Factory) *cmdutil.Cmd {
	var to, base string

	return cmdutil.New(f, cmdutil.Command{
		Use: "impact", Short: "Show what releases up to a version change here",
		Long: "Check the changes of each Talos release between what the nodes run and --to against the cluster: the machine\n" +
			"configurations, extensions, pods, and the deprecated APIs in use. Each fact names the nodes and fields that\n" +
			"show it, what to do, and its source. A fact that could not be checked is unknown, never passed.\n\n" +
			"Exit code 3 when a fact applies or is unknown. Blocking facts are gate TM155 of `upgrade plan` and\n" +
			"`upgrade apply`. To read configurations takes a certificate of role os:admin.",
		Example: "  talosmate upgrade impact --to v1.14.1\n" +
			"  talosmate upgrade impact --to v1.14.1 -o json --query '.result.facts[] | select(.verdict == \"applies\") | .id'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Question: true, Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&to, "to", "", "Talos `version`")
			fs.Complete("to", cmdutil.CompleteTalosVersions)
			fs.StringVar(&base, "factory", factory.DefaultURL, "the Image Factory's `URL`, for its list of extensions")
		},
		Check: func(*cmdutil.Call) error { return impact.CheckVersion(to) },
	}, cmdutil.ResultOf[impact.Result]("UpgradeImpact"), func(c *cmdutil.Call) error {
		targets, err := c.Targets()
		if err != nil {
			return err
		}

		cluster, err := c.Cluster()
		if err != nil {
			return err
		}

		res, err := impact.Check(c.Context(), impactOn(c, cluster, targets.Nodes, base, cluster.Options.Timeout), to)
		if err != nil && len(res.Facts)+len(res.Releases) == 0 {
			return err
		}

		word := "none"
		if res.Applies > 0 {
			word = "applies"
		} else if res.Unknown > 0 {
			word = "unknown"
		}

		c.Annotate(annotated(res.Facts)...)

		return cmdutil.PrintResult(c, res, errors.Join(err, res.Error()), word, showImpact)
	})
}

// annotated are the facts that apply, and those without an answer.
func annotated(facts []impact.Finding) []annotation.Finding {
	var out []annotation.Finding

	for _, f := range facts {
		if f.Verdict == impact.DoesNotApply {
			continue
		}

		a := annotation.Finding{Severity: annotation.Warning, Title: f.ID + " (" + f.Release + ")", Message: f.Title + "\n" + f.Remedy}
		if f.Blocking {
			a.Severity = annotation.Error
		}

		out = append(out, a)
	}

	return out
}

// impactOn is what the facts are about: nodes, their Kubernetes, and the extensions of a factory.
func impactOn(c *cmdutil.Call, cluster *talos.Cluster, nodes []talos.Target, base string, timeout time.Duration) impact.Cluster {
	return impact.Cluster{
		Nodes: func(ctx context.Context, ask func(context.Context, impact.Reads) (impact.Node, error)) []talos.Outcome[impact.Node] {
			return talos.Each(ctx, cluster, nodes, func(ctx context.Context, n *talos.Node) (impact.Node, error) { return ask(ctx, n) })
		},
		Kubernetes: func(ctx context.Context) (impact.Kubernetes, error) { return c.Kubernetes(ctx) },
		Extensions: func(ctx context.Context, version string) ([]string, error) {
			client, err := factory.New(base, timeout)
			if err != nil {
				return nil, err
			}

			list, err := client.Extensions(ctx, version)

			return lists.Map(list, func(e factory.Extension) string { return e.Name }), err
		},
	}
}

// impactOf is the impact for a plan. Without leave to ask registries the factory is not asked either.
func impactOf(c *cmdutil.Call, cluster *talos.Cluster, ask bool) func(context.Context, []talos.Target, string) (impact.Result, error) {
	return func(ctx context.Context, nodes []talos.Target, to string) (impact.Result, error) {
		on := impactOn(c, cluster, nodes, factory.DefaultURL, registryTimeout)
		if !ask {
			on.Extensions = func(context.Context, string) ([]string, error) {
				return nil, errors.New("the Image Factory was not asked (--check-images=false)")
			}
		}

		return impact.Check(ctx, on, to)
	}
}

func showImpact(w io.Writer, r impact.Result) error {
	if len(r.Releases) == 0 {
		fmt.Fprintf(w, "no minor release lies between what the nodes run and %s\n", output.Cell(r.To))

		return nil
	}

	fmt.Fprintf(w, "to %s, passing %s: %d apply, %d unknown, %d do not apply\n\n", output.Cell(r.To), strings.Join(r.Releases, ", "),
		r.Applies, r.Unknown, len(r.Facts)+len(r.Unlisted)-r.Applies-r.Unknown)

	err := output.WriteTable(w, []output.Column[impact.Finding]{
		{Header: "VERDICT", State: true, Value: func(f impact.Finding) string { return strings.ReplaceAll(string(f.Verdict), "_", " ") }},
		{Header: "BLOCKING", Value: func(f impact.Finding) string { return output.YesNo(f.Blocking) }},
		{Header: "RELEASE", Value: func(f impact.Finding) string { return f.Release }},
		{Header: "FACT", Value: func(f impact.Finding) string { return f.ID }},
		{Header: "CHANGE", Value: func(f impact.Finding) string { return f.Title }},
	}, r.Facts)

	for _, f := range r.Facts {
		if f.Verdict == impact.Applies {
			explain(w, f)
		}
	}

	showUnknown(w, r)

	return err
}

// explain says where a fact applies, and what to do about it.
func explain(w io.Writer, f impact.Finding) {
	fmt.Fprintf(w, "\n%s: %s\n", f.ID, f.Title)

	for _, e := range f.Evidence {
		fmt.Fprintf(w, "  %s: %s\n", output.Line(where(e.NodeRef)), output.Line(e.String()))
	}

	if f.Note != "" {
		fmt.Fprintf(w, "  note: %s\n", f.Note)
	}

	fmt.Fprintf(w, "  to do: %s\n", f.Remedy)

	if f.Command != "" {
		fmt.Fprintf(w, "  next: %s\n", output.Line(f.Command))
	}

	fmt.Fprintf(w, "  source: %s\n", f.Source)
}

// showUnknown says each reason once, with the facts that it leaves without an answer.
func showUnknown(w io.Writer, r impact.Result) {
	var reasons []string

	facts := map[string][]string{}

	for _, f := range r.Facts {
		for _, u := range f.Unknown {
			if facts[u.Reason] == nil {
				reasons = append(reasons, u.Reason)
			}

			if !slices.Contains(facts[u.Reason], f.ID) {
				facts[u.Reason] = append(facts[u.Reason], f.ID)
			}
		}
	}

	if len(reasons)+len(r.Unlisted) > 0 {
		fmt.Fprintln(w, "\nunknown:")
	}

	for _, name := range r.Unlisted {
		fmt.Fprintf(w, "  this program does not know what Talos %s changes\n", name)
	}

	for _, reason := range reasons {
		fmt.Fprintf(w, "  %s\n    %s\n", output.Line(reason), strings.Join(facts[reason], ", "))
	}
}

// where names the node, or the cluster.
func where(n talos.NodeRef) string {
	if n.Node == "" {
		return "cluster"
	}

	return n.NodeName()
}
