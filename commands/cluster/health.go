package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/annotation"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type healthOptions struct {
	checks      health.Options
	wait        bool
	waitTimeout time.Duration
	server      bool
	report      string
	build       cmdutil.Build
	watch       cmdutil.Watch
}

// NewCmdHealth makes `talosmate health`.
func NewCmdHealth(f *cmdutil.Factory) *cmdutil.Cmd {
	o := healthOptions{build: f.Build}

	return cmdutil.New(f, cmdutil.Command{
		Use: "health", Short: "Check whether the cluster is healthy",
		Long: "Check whether the cluster is healthy: its own checks, side by side, each with a stable ID. The exit code is\n" +
			"0 when nothing failed, 3 when something did or has no answer. Works without a CNI, on one node, with\n" +
			"a dead node and with a reader's certificate; what that may not ask is skipped with the reason, and a\n" +
			"certificate that may ask nothing is exit code 6. --timeout bounds all checks together; a table shows what\n" +
			"is known while others are still to come.\n\n" +
			"--server streams the health check that a control plane itself runs instead.\n\nChecks: " + checkList(),
		Example: "  talosmate health --scope etcd --watch\n" +
			"  talosmate health --report health.html\n" +
			"  talosmate health --wait --wait-timeout 10m -o json --query '.result.checks[] | select(.status == \"fail\") | .id'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Question: true, Default: target.DefaultEndpoint},
		Flags: func(fs *cmdutil.Flags) {
			fs.Choice(&o.checks.Scope, "scope", health.ScopeFull, "how far up to look", health.Scopes()...)
			fs.StringSliceVar(&o.checks.Skip, "skip", nil, "leave this check out, by ID (repeatable)")
			fs.StringSliceVar(&o.checks.Only, "only", nil, "ask this check only, by ID (repeatable)")
			fs.BoolVar(&o.wait, "wait", false, "ask again until the cluster is healthy; only changes are shown on stderr")
			fs.Positive(&o.waitTimeout, "wait-timeout", 5*time.Minute, "how long to wait with --wait, and how long --server may take")
			fs.BoolVar(&o.server, "server", false, "run the control plane's own health check")
			reportFlag(fs, &o.report)
			o.watch.Add(fs)
			fs.Exclusive("wait", "server", "watch")
			fs.Complete("skip", completeChecks)
			fs.Complete("only", completeChecks)
		},
	}, cmdutil.ResultOf[health.Result]("HealthResult"), func(c *cmdutil.Call) error { return o.run(c, f.Now) })
}

func checkList() string {
	return lists.Join(health.IDs(), ", ", func(f health.Finding) string { return f.ID }) + "."
}

func completeChecks(context.Context, *cmdutil.Call, []string) []string {
	return lists.Map(health.IDs(), func(f health.Finding) string { return cmdutil.Described(f.ID, f.Title) })
}

func (o healthOptions) run(c *cmdutil.Call, now func() time.Time) error {
	if err := o.checks.Validate(); err != nil {
		return errs.AsUsage(err)
	}

	if err := checkReport(o.report); err != nil {
		return err
	}

	if o.report != "" && o.watch.On() {
		return errs.Usagef("--report and --watch are mutually exclusive: a report is of one time")
	}

	if o.server {
		return o.runServer(c)
	}

	world, err := healthWorld(c, now)
	if err != nil {
		return err
	}

	if o.watch.On() {
		return o.watch.Run(c, func() (cmdutil.Reading, error) { return readHealth(c, health.Check(c.Context(), world(), o.checks)) })
	}

	table := newHealthTable(c.Printer)
	if o.checks.Tell = o.changes(c, nil); !o.wait && table.shown() {
		stop := table.follow()
		defer stop()

		o.checks.Tell = table.add
	}

	res := health.Check(c.Context(), world(), o.checks)

	if o.wait && !res.Healthy && !res.Blind() {
		if res, err = o.await(c, world, res); err != nil {
			return err
		}
	}

	return o.answer(c, res, table)
}

// await checks again until the cluster is healthy, with the changes on stderr.
func (o healthOptions) await(c *cmdutil.Call, world func() health.Cluster, res health.Result) (health.Result, error) {
	attempts := 1

	err := poll.Until(c.Context(), "the cluster to be healthy", 2*time.Second, o.waitTimeout, func(ctx context.Context) (bool, string, error) {
		o.checks.Tell = o.changes(c, res.Findings)
		res = health.Check(ctx, world(), o.checks)
		attempts++
		res.Attempts = attempts

		return res.Healthy, fmt.Sprintf("%d checks failed", res.Summary.Fail+res.Summary.Unknown), nil
	})
	if err != nil && c.Context().Err() != nil {
		return res, err
	}

	return res, nil
}

// changes writes the findings that are not what they were; nothing without --wait.
func (o healthOptions) changes(c *cmdutil.Call, before []health.Finding) func(health.Finding) {
	if !o.wait {
		return nil
	}

	was := map[string]string{}
	for _, f := range before {
		was[f.ID+f.Node] = f.Status
	}

	return func(f health.Finding) {
		if before == nil && (f.Status == health.OK || f.Status == health.Skip) || was[f.ID+f.Node] == f.Status {
			return
		}

		fmt.Fprintf(c.IO.Err, "%s %s: %s\n", f.Status, output.Line(strings.TrimSpace(f.ID+" "+f.Hostname)), output.Line(f.Message))
	}
}

func (o healthOptions) answer(c *cmdutil.Call, res health.Result, table *healthTable) error {
	err := errors.Join(verdict(c, res), saveReport(c, o.report, o.build, healthPage(c.Printer.Context, res)))
	if err != nil && res.Blind() && !c.Printer.Structured() {
		return err
	}

	word := "healthy"
	if !res.Healthy {
		word = "unhealthy"
	}

	c.Annotate(annotated(res.Findings)...)

	return cmdutil.PrintResult(c, res, err, word, table.finish)
}

// verdict is the error of a cluster that is not healthy, or whose health nobody may see.
func verdict(c *cmdutil.Call, res health.Result) error {
	switch {
	case res.Blind():
		cluster, err := c.Cluster()
		if err != nil {
			return err
		}

		why := res.Findings[slices.IndexFunc(res.Findings, func(f health.Finding) bool { return f.ID == res.NotAuthorized[0] })].Message

		return errs.New(errs.Unreachable, "cannot check the health of the cluster: %s (the certificate has %s)", why, cluster.Context.RoleList()).
			WithKind(errs.KindPermissionDenied).
			WithHint("use a certificate with one of %s; os:etcd:backup can check etcd, and Kubernetes needs os:admin", strings.Join(cmdutil.Readers(), ", "))
	case !res.Healthy:
		return errs.New(errs.Negative, "the cluster is not healthy: %s failed, %d without an answer", output.Count(res.Summary.Fail, "check"), res.Summary.Unknown).
			WithKind(errs.KindNegative)
	default:
		return nil
	}
}

// Health is what `health` shows.
func Health(c *cmdutil.Call, now func() time.Time) (health.Result, error) {
	world, err := healthWorld(c, now)
	if err != nil {
		return health.Result{}, err
	}

	return health.Check(c.Context(), world(), health.Options{Scope: health.ScopeFull}), nil
}

// readHealth makes a result the reading of a watch.
func readHealth(c *cmdutil.Call, res health.Result) (cmdutil.Reading, error) {
	err := verdict(c, res)
	if err != nil && res.Blind() {
		return nil, err
	}

	return cmdutil.ResultReading[health.Result, health.Finding]{
		Result: res, Err: err, Rows: res.Findings, Columns: healthColumns(), Answer: summaryLine(res),
		Human: func(w io.Writer, r health.Result) error { return newHealthTable(c.Printer).finish(w, r) },
		Live:  liveHealth,
		Key:   func(f health.Finding) (string, string) { return f.ID, f.Node },
		// The message of a check that passed may hold a measurement.
		Same: func(header string, f health.Finding) bool { return header == "MESSAGE" && f.Status == health.OK },
	}, nil
}

// annotated are the findings that are not fine.
func annotated(findings []health.Finding) []annotation.Finding {
	var out []annotation.Finding

	for _, f := range findings {
		a := annotation.Finding{Severity: annotation.Error, Title: strings.TrimSpace(f.ID + " " + cmp.Or(f.Hostname, f.Node)), Message: f.Message}

		switch f.Status {
		case health.OK, health.Skip:
			continue
		case health.Warn:
			a.Severity = annotation.Warning
		}

		if f.Hint != "" {
			a.Message += "\nhint: " + f.Hint
		}

		out = append(out, a)
	}

	return out
}

// healthWorld makes a view of the cluster that is read afresh on every call.
func healthWorld(c *cmdutil.Call, now func() time.Time) (func() health.Cluster, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return nil, err
	}

	only, err := chosen(c, cluster)
	if err != nil {
		return nil, err
	}

	return func() health.Cluster {
		return health.Cluster{
			Members:    cluster.Relist,
			Affiliates: func(ctx context.Context) ([]talos.Member, error) { return cluster.Endpoint().Affiliates(ctx) },
			EtcdMembers: func(ctx context.Context) ([]talos.EtcdMember, error) {
				return cluster.Endpoint().EtcdMembers(ctx, false)
			},
			Only: only,
			Node: func(t talos.Target) health.Node { return cluster.Node(t) },
			Etcd: func(ctx context.Context, targets []talos.Target) etcd.View {
				return etcd.Gather(ctx, etcd.Sources(cluster, targets), cluster.Options.Timeout)
			},
			Kubernetes: func(ctx context.Context) (health.Kubernetes, bool, error) {
				k, err := c.Kubernetes(ctx)
				if err != nil {
					return nil, !cluster.Context.HasAnyRole(cmdutil.Admins()), err
				}

				return k, false, nil
			},
			Timeout: cluster.Options.Timeout, Expires: cluster.Context.NotAfter, Now: now,
		}
	}, nil
}

// chosen returns the nodes that the user named, nil for all of them.
func chosen(c *cmdutil.Call, cluster *talos.Cluster) ([]talos.Target, error) {
	s := c.Selection()
	if !s.Explicit() {
		return nil, nil // nobody was named
	}

	targets, err := cluster.Targets(c.Context(), s, target.DefaultNone)
	if err != nil {
		return nil, err
	}

	return targets.Nodes, nil
}

func (o healthOptions) runServer(c *cmdutil.Call) error {
	targets, err := c.Targets()
	if err != nil {
		return err
	}

	if len(targets.Nodes) > 1 {
		return errs.Usagef("--server asks one control plane; %d nodes are chosen", len(targets.Nodes))
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	// The deadline is the server's own, with a little room for its last word.
	ctx, cancel := context.WithTimeout(c.Context(), o.waitTimeout+5*time.Second)
	defer cancel()

	res, err := health.Server(ctx, cluster.Node(targets.Nodes[0]), o.waitTimeout, func(f health.Finding) {
		if f.Status == health.Unknown {
			return
		}

		fmt.Fprintf(c.IO.Err, "%s %s\n", f.Status, output.Line(f.Title))
	})
	if err != nil {
		return err
	}

	return o.answer(c, res, newHealthTable(c.Printer))
}
