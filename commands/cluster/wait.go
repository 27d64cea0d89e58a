package cluster

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/wait"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type waitOptions struct {
	conditions []string
	timeout    time.Duration
}

// NewCmdWait makes `talosmate wait`.
func NewCmdWait(f *cmdutil.Factory) *cmdutil.Cmd {
	var o waitOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "wait --for=CONDITION", Short: "Wait until a condition holds on the cluster or nodes",
		Long: "Wait until a condition holds: on every chosen node (all members by default), or on the cluster. Several\n" +
			"--for must hold at the same look. Nodes that do not answer are asked again until the deadline; then the\n" +
			"exit code is 124 and the document holds what was seen last.\n\nConditions:\n" + conditionList() +
			"\nEXPR is CEL over metadata and spec, such as spec.stage == \"running\".",
		Example: "  talosmate wait --for=ready --for=version=v1.14.1 -n worker-1 --wait-timeout 10m\n" +
			"  talosmate wait --for='resource=machinestatus/machine:spec.status.ready' --controlplanes\n" +
			"  id=$(talosmate describe node worker-1 --query '.result.node.boot.id')\n" +
			"  talosmate wait --for=rebooted=$id -n worker-1",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringArrayVar(&o.conditions, "for", nil, "what to wait for: a `condition` as listed above (repeatable)")
			fs.Positive(&o.timeout, "wait-timeout", 5*time.Minute, "how long to wait")
			fs.Complete("for", func(context.Context, *cmdutil.Call, []string) []string {
				var out []string
				for _, form := range wait.Forms() {
					name, value, hasValue := strings.Cut(form[0], "=")
					if hasValue {
						name += "="
					}
					if value == wait.Healthy {
						name += value
					}
					out = append(out, cmdutil.Described(name, form[1]))
				}
				return out
			})
		},
	}, cmdutil.ResultOf[wait.Result]("WaitResult"), func(c *cmdutil.Call) error { return o.run(c, f.Now) })
}

func conditionList() string {
	var b strings.Builder

	for _, form := range wait.Forms() {
		fmt.Fprintf(&b, "  %-22s %s\n", form[0], form[1])
	}

	return b.String()
}

func (o waitOptions) run(c *cmdutil.Call, now func() time.Time) error {
	if len(o.conditions) == 0 {
		return errs.Usagef("nothing to wait for").WithHint("%s", c.Again("--for=ready"))
	}

	conditions := make([]wait.Condition, len(o.conditions))

	for i, text := range o.conditions {
		var err error
		if conditions[i], err = wait.Parse(text); err != nil {
			return err
		}
	}

	checked, err := waitCluster(c, now)
	if err != nil {
		return err
	}

	res, err := wait.For(c.Context(), checked, conditions, probe.VerifyPoll, o.timeout)
	if err != nil && errs.ExitCode(err) != errs.Timeout {
		return err
	}

	word := "met"
	if !res.Met {
		word = "not-met"
	}

	return cmdutil.PrintResult(c, res, err, word, showWait)
}

func waitCluster(c *cmdutil.Call, now func() time.Time) (wait.Cluster, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return wait.Cluster{}, err
	}

	look, err := healthWorld(c, now)
	if err != nil {
		return wait.Cluster{}, err
	}

	var known []talos.Target

	return wait.Cluster{
		// Once known the nodes stay the same: a node that is down must not be omitted.
		Targets: func(context.Context) ([]talos.Target, error) {
			if known == nil {
				targets, err := c.Targets()
				if err != nil {
					return nil, err
				}

				known = targets.Nodes
			}

			return known, nil
		},
		Prober: func(t talos.Target) probe.Prober {
			return probe.Prober{
				Name: t.Name(), Via: cluster.Node(t), Now: now,
				Fresh: func() (probe.API, probe.Close) { return cluster.Fresh(t) },
			}
		},
		Health: func(ctx context.Context) health.Result {
			return health.Check(ctx, look(), health.Options{Scope: health.ScopeFull})
		},
		Etcd: func(ctx context.Context, nodes []talos.Target) (etcd.View, error) {
			limit := min(cluster.Options.Timeout, probe.Limit)
			if len(nodes) > 0 {
				return etcd.Gather(ctx, etcd.Sources(cluster, nodes), limit), nil
			}

			return etcd.LookFor(ctx, cluster, limit)
		},
		Named: len(c.Selection().Nodes) > 0, Now: now,
	}, nil
}

func showWait(w io.Writer, r wait.Result) error {
	return output.WriteTable(w, []output.Column[wait.Seen]{
		{Header: "NODE", Value: func(s wait.Seen) string { return cmp.Or(s.Hostname, s.Node) }},
		{Header: "CONDITION", Value: func(s wait.Seen) string { return s.Condition }},
		{Header: "MET", Value: func(s wait.Seen) string { return fmt.Sprint(s.Met) }},
		{Header: "SAW", Value: func(s wait.Seen) string { return s.Saw }},
	}, r.Seen)
}
