package upgrade

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/impact"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdPlan(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		r         rollout.Request
		overrides []string
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "plan", Short: "Read the cluster and show what an upgrade would do",
		Long: "Plan the upgrade of the cluster, or of the nodes chosen: the order, each node's way and image with its own\n" +
			"schematic, platform and registry kept, what every gate says, and which disruption budgets hold pods now.\n" +
			"Nothing is changed. The same cluster gives the same document but for times.\n\n" +
			"Write it to a file and give that to `upgrade apply`, which refuses when the cluster is not as planned any\n" +
			"more. What the releases on the way change for this cluster is in short at the end; `upgrade impact` has it in\n" +
			"full. A gate that refuses is exit code 5, with the whole plan printed all the same. A node that does not answer\n" +
			"is in the plan with its error (exit code 4), and `upgrade apply` leaves it out.",
		Example: "  talosmate upgrade plan --to v1.14.1\n" +
			"  talosmate upgrade plan --to v1.14.1 --max-parallel 25% --canary worker-1 -o json > plan.json",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			addRequestFlags(fs, &r)
			fs.StringSliceVar(&overrides, "override", nil, "plan as if this safety gate were passed, by code (repeatable)")
			fs.Complete("override", cmdutil.CompleteGates)
		},
	}, cmdutil.ResultOf[rollout.Plan]("UpgradePlan"), func(c *cmdutil.Call) error {
		c.Overrides = overrides
		if err := c.Overrides.Validate(); err != nil {
			return err
		}

		if err := checkRequest(r); err != nil {
			return err
		}

		plan, err := makePlan(c, r)
		if len(plan.Nodes) == 0 {
			return err
		}

		c.Annotate(cmdutil.GateFindings(plan.Gates)...)

		for _, n := range plan.Nodes {
			c.Annotate(cmdutil.GateFindings(n.Gates)...)
		}

		return cmdutil.PrintResult(c, plan, err, plan.Hash, showPlan)
	})
}

func checkRequest(r rollout.Request) error {
	switch {
	case r.InstallOnly && r.RebootOnly:
		return errs.Usagef("--install-only and --reboot-only are the two halves: choose one")
	case (r.To == "") == (r.Image == ""):
		return errs.Usagef("say where to: either --to VERSION or --image REFERENCE").WithHint("for example --to v1.14.1")
	default:
		return nil
	}
}

// makePlan plans for the chosen nodes, all members by default.
func makePlan(c *cmdutil.Call, r rollout.Request) (rollout.Plan, error) {
	fleet, _, err := Fleet(c, "talosmate upgrade plan")
	if err != nil {
		return rollout.Plan{}, err
	}

	r.AllNodes = !c.Selection().Explicit()

	if err = chosen(c, &r); err != nil {
		return rollout.Plan{}, err
	}

	return rollout.MakePlan(c.Context(), fleet, r, c.Overrides)
}

// chosen puts the nodes that were chosen by flags into a request.
func chosen(c *cmdutil.Call, r *rollout.Request) error {
	if !c.Selection().Explicit() {
		return nil
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	r.Nodes, r.AllNodes = targets.Addresses(), c.Selection().All

	return nil
}

func showPlan(w io.Writer, p rollout.Plan) error {
	workers := "one worker"
	if p.Workers > 1 {
		workers = fmt.Sprintf("%d workers", p.Workers)
	}

	fmt.Fprintf(w, "%s to %s: %d of %d nodes, %s at once\n\n", output.Line(p.Cluster), output.Cell(p.To), p.Work, len(p.Nodes), workers)

	cols := []output.Column[rollout.NodePlan]{
		{Header: "#", Value: func(n rollout.NodePlan) string {
			if n.Order == 0 {
				return "-"
			}

			return fmt.Sprint(n.Order)
		}},
		{Header: "NODE", Value: func(n rollout.NodePlan) string { return output.Line(nodeName(n)) }},
		{Header: "ROLE", Value: func(n rollout.NodePlan) string {
			if n.EtcdLeader {
				return n.Role + " (leader)"
			}

			return n.Role
		}},
		{Header: "ACTION", State: true, Value: func(n rollout.NodePlan) string { return n.Action }},
		{Header: "WAY", Value: way},
		{Header: "IMAGE", Value: shortImage},
		{Header: "REFERENCE", Wide: true, Value: image},
	}

	if err := output.WriteTable(w, cols, p.Nodes); err != nil {
		return err
	}

	for _, n := range p.Nodes {
		if n.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", output.Line(nodeName(n)), output.Line(n.Error))
		}
	}

	showGates(w, p)

	showExtensions(w, p)
	showFacts(w, p)

	for _, n := range p.Nodes {
		for _, b := range n.Blockers {
			fmt.Fprintf(w, "%s: budget %s holds %s: %s\n", output.Line(nodeName(n)), output.Line(b.Budget), output.Line(b.Pod), output.Line(b.Message))
		}
	}

	if slices.ContainsFunc(p.Nodes, func(n rollout.NodePlan) bool { return n.ImageUnreadable }) {
		fmt.Fprintln(w, "images are not readable: they follow from the machine configuration, which takes a certificate of role os:admin, as `upgrade apply` does")
	}

	_, err := fmt.Fprintf(w, "\nplan %.12s\n", p.Hash)

	return err
}

// showFacts says in short what the releases on the way change.
func showFacts(w io.Writer, p rollout.Plan) {
	applies := lists.Filter(p.Impact, func(f rollout.Impact) bool { return f.Verdict == impact.Applies })

	for _, f := range applies {
		names := lists.Join(f.Nodes, ", ", talos.NodeRef.NodeName)
		fmt.Fprintf(w, "%s %s: %s (%s)\n", f.Release, f.ID, f.Title, output.Line(cmp.Or(names, "cluster")))
	}

	if len(p.Impact) > 0 {
		fmt.Fprintf(w, "changes of releases: %d apply, %d unknown; what to do: talosmate upgrade impact --to %s\n",
			len(applies), len(p.Impact)-len(applies), output.Line(p.To))
	}
}

// showExtensions says which extensions do not simply stay.
func showExtensions(w io.Writer, p rollout.Plan) {
	for _, n := range p.Nodes {
		for _, change := range []struct {
			verb string
			list []string
		}{{"loses", n.ExtensionsLost}, {"gets", n.ExtensionsAdded}} {
			if n.Order > 0 && len(change.list) > 0 {
				fmt.Fprintf(w, "%s %s the extensions %s\n", output.Line(nodeName(n)), change.verb, output.Line(strings.Join(change.list, ", ")))
			}
		}
	}
}

func nodeName(n rollout.NodePlan) string {
	return cmp.Or(n.Hostname, n.Node)
}

// image is the node's image, or why there is none.
func image(n rollout.NodePlan) string {
	switch {
	case n.Error != "":
		return n.Error
	case n.ImageUnreadable:
		return "not readable"
	default:
		return n.Image
	}
}

// shortImage is what a table has room for: without the registry and the tag, which is the version.
func shortImage(n rollout.NodePlan) string {
	switch {
	case n.Error != "":
		return "" // it is below the table
	case n.ImageUnreadable:
		return "not readable"
	}

	ref := imageref.Split(n.Image)
	_, path, found := strings.Cut(ref.Repository, "/")

	if !found {
		path = ref.Repository
	}

	return output.Short(path)
}

func way(n rollout.NodePlan) string {
	if len(n.Hops) == 0 {
		return n.From
	}

	steps := []string{n.From}
	for _, h := range n.Hops {
		steps = append(steps, h.To)
	}

	return strings.Join(steps, " -> ")
}

// showGates says what does not simply pass, what is said of several nodes once.
func showGates(w io.Writer, p rollout.Plan) {
	var lines []string

	who := map[string][]string{}

	add := func(name string, verdicts []gate.Verdict) {
		for _, g := range verdicts {
			if g.Verdict == gate.Pass || g.Verdict == gate.Skip {
				continue
			}

			line := fmt.Sprintf("%s %s: %s", g.Gate, g.Verdict, g.Message)
			if who[line] == nil {
				lines = append(lines, line)
			}

			who[line] = append(who[line], name)
		}
	}

	add("cluster", p.Gates)

	for _, n := range p.Nodes {
		add(nodeName(n), n.Gates)
	}

	for _, line := range lines {
		fmt.Fprintf(w, "%s (%s)\n", output.Line(line), output.Line(strings.Join(who[line], ", ")))
	}
}
