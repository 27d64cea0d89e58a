package etcd

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdRestorePlan(f *cmdutil.Factory) *cmdutil.Cmd {
	config := ""

	return cmdutil.New(f, cmdutil.Command{
		Use: "restore-plan FILE", Short: "Show how this cluster is recovered from a snapshot",
		Long: "Verify a snapshot and print the recovery of this cluster: the control planes, the partition to wipe on each,\n" +
			"the command lines in order, and what the cluster has written since. Nothing is changed.\n\n" +
			"A cluster that is down is asked as far as it answers. The control planes are those of -n, else those that the\n" +
			"cluster and the snapshot list, else the endpoints of the talosconfig. With -n or --config no talosconfig is\n" +
			"needed. What could not be known is listed. The exit code is 3, without a plan, for a snapshot that would not restore.",
		Example: "  talosmate etcd restore-plan backup.db --config controlplane.yaml\n" +
			"  talosmate etcd restore-plan backup.db -n 10.0.0.11,10.0.0.12,10.0.0.13 -o json --query '.result.steps[].command'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Default: target.DefaultControlPlanes, Question: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&config, "config", "", "`file` with a control plane's machine configuration: keys, and volumes of nodes that are down (- for stdin)")
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[snapshot.RestorePlan]("EtcdRestorePlan"), func(c *cmdutil.Call) error { return runRestorePlan(c, config) })
}

func runRestorePlan(c *cmdutil.Call, config string) error {
	var (
		text []byte
		keys *snapshot.Keys
		err  error
	)

	if config != "" {
		if text, keys, err = configKeys(c, config); err != nil {
			return err
		}
	}

	cluster, err := c.Cluster()
	if err != nil && config == "" && !c.Selection().Explicit() {
		return err
	}

	s := snapshot.NewSurvey(cluster)
	if err != nil {
		s.Unknown = append(s.Unknown, "anything that only the cluster knows: "+err.Error())
	}

	live(c, s)

	from := config
	if keys == nil {
		keys, from = s.Keys, s.KeysOf
	}

	r, err := snapshot.Verify(c.Context(), c.Args[0], keys, from)
	if err != nil && len(r.Problems) == 0 {
		return err // it was not read
	}

	if err := rest(c, s, &r); err != nil {
		return err
	}

	if text != nil {
		if err := s.UseConfig(text); err != nil {
			return err
		}
	}

	s.Look(c.Context())

	revision := int64(0)

	if cluster != nil && s.Answers() {
		var unknown error
		if revision, unknown = revisionOf(c, cluster.Options.Timeout); errs.IsUntrusted(unknown) {
			return unknown
		}
	}

	if c.Context().Err() != nil {
		return errs.BrokenOff(c.Context(), "plan the recovery", "nothing was changed")
	}

	r.Compare(s.View, revision, c.Printer.Now())

	return cmdutil.PrintResult(c, s.Plan(r, namedBy(c)...), err, r.SHA256, showRestorePlan)
}

// live asks the control planes that the user names by their addresses, else those that the cluster lists.
func live(c *cmdutil.Call, s *snapshot.Survey) {
	sel := c.Selection()

	members, err := s.Members(c.Context())
	if err != nil {
		s.Unknown = append(s.Unknown, "which nodes the cluster has: "+err.Error())
	}

	if len(sel.Nodes) == 0 {
		s.Ask(c.Context(), target.SourceMembers, target.Selection{ControlPlanes: true}.Among(members))

		return
	}

	// Names need what the cluster or the snapshot lists.
	s.Ask(c.Context(), target.SourceFlags, lists.Map(lists.Filter(sel.Nodes, isAddress), func(name string) talos.Target {
		if m := target.ByAddress(members, target.Host(name)); m != nil {
			return m.Target()
		}

		return at(name)
	}))
}

// rest adds what the snapshot and the talosconfig name.
func rest(c *cmdutil.Call, s *snapshot.Survey, r *snapshot.Report) error {
	names := slices.DeleteFunc(slices.Clone(c.Selection().Nodes), isAddress)
	if len(c.Selection().Nodes) == 0 {
		s.Ask(c.Context(), snapshot.FromSnapshot, r.Targets())

		if cluster, err := c.Cluster(); err == nil && len(s.Nodes) == 0 {
			s.Ask(c.Context(), target.SourceEndpoints, lists.Map(cluster.Endpoints(), at))
		}

		return nil
	}

	if len(names) == 0 {
		return nil
	}

	members, _ := s.Members(c.Context()) // the snapshot may know them
	known := append(lists.Map(members, talos.Member.Target), r.Targets()...)

	for _, name := range names {
		t, found := lists.Find(known, func(t talos.Target) bool { return t.Hostname == name })
		if !found {
			return errs.Usagef("neither the cluster nor the snapshot lists a node %q", name).WithHint("name it by its address")
		}

		s.Ask(c.Context(), target.SourceFlags, []talos.Target{t})
	}

	return nil
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(target.Host(name))

	return err == nil
}

func at(name string) talos.Target {
	return talos.Target{Address: target.Host(name), Type: target.ControlPlane}
}

// namedBy are the flags that name the cluster, as they were given.
func namedBy(c *cmdutil.Call) (out []string) {
	for _, name := range []string{"talosconfig", "context", "endpoints"} {
		if f := c.Cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() != "-" {
			value := f.Value.String()
			if name == "endpoints" {
				values, _ := c.Cmd.Flags().GetStringSlice(name)
				value = strings.Join(values, ",")
			}

			out = append(out, "--"+name, value)
		}
	}

	return out
}

func showRestorePlan(w io.Writer, p snapshot.RestorePlan) error {
	r := p.Snapshot

	fmt.Fprintf(w, "%s: %s, revision %d\n", output.Line(r.Path), verdictOf(r), r.Revision)
	showProblems(w, r)

	if r.Contents == nil {
		return nil
	}

	fmt.Fprintf(w, "\netcd now:   %s\n", p.Etcd)
	showLive(w, r.Live)

	lines := func(title string, texts []string) {
		if len(texts) > 0 {
			fmt.Fprintf(w, "\n%s\n", title)
		}

		for _, text := range texts {
			fmt.Fprintf(w, "  - %s\n", output.Line(text))
		}
	}

	lines("WARNINGS", p.Warnings)
	lines("NOT KNOWN", p.Unknown)

	fmt.Fprintln(w)

	err := output.WriteTable(w, []output.Column[snapshot.RestoreNode]{
		{Header: "NODE", Value: snapshot.RestoreNode.NodeName},
		{Header: "ADDRESS", Value: func(n snapshot.RestoreNode) string { return n.Node }},
		{Header: "NAMED BY", Value: func(n snapshot.RestoreNode) string { return n.Source }},
		{Header: "ANSWERS", Value: func(n snapshot.RestoreNode) string { return output.YesNo(n.Answers) }},
		{Header: "WIPE", Value: func(n snapshot.RestoreNode) string { return n.Wipe }},
		{Header: "KNOWN BY", Value: func(n snapshot.RestoreNode) string { return n.WipeFrom }},
	}, p.Nodes)

	for i, step := range p.Steps {
		fmt.Fprintf(w, "\n%d. %s\n", i+1, output.Line(step.Title))

		if step.Note != "" {
			fmt.Fprintf(w, "   (%s)\n", output.Line(step.Note))
		}

		if step.Command != "" {
			fmt.Fprintf(w, "   %s\n", output.Line(step.Command))
		}
	}

	return err
}
