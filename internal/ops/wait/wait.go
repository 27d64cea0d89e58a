package wait

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Seen is the last observation of one condition.
type Seen struct {
	Condition string `json:"condition"`          // The condition, as it was given.
	Node      string `json:"node,omitempty"`     // The node it was asked of; empty for the cluster.
	Hostname  string `json:"hostname,omitempty"` // That node's hostname, where known.
	Met       bool   `json:"met"`                // Whether it held.
	Saw       string `json:"saw"`                // What was observed, in words.
}

// Result is how a wait ended.
type Result struct {
	Met           bool    `json:"met"`            // Whether all conditions held at the same check.
	WaitedSeconds float64 `json:"waited_seconds"` // How long it took.
	Attempts      int     `json:"attempts"`       // How often the conditions were checked.
	Seen          []Seen  `json:"seen"`           // The last observations, by condition and node; never null.
}

// Cluster is what conditions are checked on.
type Cluster struct {
	Targets func(context.Context) ([]talos.Target, error) // The nodes that conditions of nodes are about.
	Prober  func(talos.Target) probe.Prober               // The two ways to one node.
	Health  func(context.Context) health.Result
	Etcd    func(context.Context, []talos.Target) (etcd.View, error) // As these nodes see it, or all control planes without any.
	Named   bool                                                     // Whether the user named the nodes: etcd=healthy is about their members then.
	Now     func() time.Time
}

// For waits until all conditions hold at the same check. What cannot become true by waiting (a certificate without the
// role or that has expired, an unknown resource type) ends it at once. A passed deadline is errs.Timeout.
func For(ctx context.Context, w Cluster, conditions []Condition, every, deadline time.Duration) (Result, error) {
	res := Result{Seen: []Seen{}}
	began := w.Now()
	what := lists.Join(conditions, " and ", func(c Condition) string { return c.Text })

	err := poll.Until(ctx, what, every, deadline, func(ctx context.Context) (bool, string, error) {
		res.Attempts++

		seen, err := w.check(ctx, conditions)
		if err != nil {
			return false, "", err
		}

		// A check that the deadline cut off says less than the one before it.
		if ctx.Err() != nil && len(res.Seen) > 0 {
			return false, "", nil
		}

		res.Seen = seen
		res.Met = !slices.ContainsFunc(seen, func(s Seen) bool { return !s.Met })

		return res.Met, unmet(seen), nil
	})

	res.WaitedSeconds = w.Now().Sub(began).Round(time.Millisecond).Seconds()

	if errors.Is(err, poll.ErrDeadline) {
		err = errs.New(errs.Timeout, "%w", err).WithKind(errs.KindTimeout)
	}

	return res, err
}

// unmet names up to three conditions that do not hold.
func unmet(seen []Seen) string {
	var parts []string

	for _, s := range seen {
		if s.Met {
			continue
		}

		if len(parts) == 3 {
			parts = append(parts, "and more")

			break
		}

		if where := cmp.Or(s.Hostname, s.Node); where != "" {
			parts = append(parts, where+": "+s.Saw)
		} else {
			parts = append(parts, s.Saw)
		}
	}

	return strings.Join(parts, "; ")
}

func (w Cluster) check(ctx context.Context, conditions []Condition) ([]Seen, error) {
	var targets []talos.Target

	if w.Named || slices.ContainsFunc(conditions, Condition.OfNode) {
		var err error

		targets, err = w.Targets(ctx)
		if final(err) || (err != nil && ctx.Err() != nil) {
			return nil, err
		}

		if err != nil {
			return []Seen{{Condition: conditions[0].Text, Saw: err.Error()}}, nil
		}
	}

	for _, c := range conditions {
		if c.OneNode() && len(targets) != 1 {
			return nil, errs.Usagef("%s is about one node, and %d are chosen", c.Text, len(targets)).WithHint("name it with -n")
		}
	}

	found := make([][]Seen, len(conditions))
	failed := make([]error, len(conditions))

	var wg errs.Group

	for i, c := range conditions {
		wg.Go(func() {
			failed[i] = errs.Safely(func() (err error) {
				switch {
				case c.Kind == Healthy:
					found[i] = []Seen{w.checkHealth(ctx, c)}
				case c.Kind == Etcd:
					found[i] = w.checkEtcd(ctx, c, targets)
				default:
					found[i], err = w.checkNodes(ctx, c, targets)
				}

				return err
			})
		})
	}

	wg.Wait()

	return slices.Concat(found...), errors.Join(failed...)
}

func (w Cluster) checkHealth(ctx context.Context, c Condition) Seen {
	res := w.Health(ctx)
	seen := Seen{Condition: c.Text, Met: res.Healthy, Saw: "healthy"}

	if !res.Healthy {
		bad := lists.Filter(res.Findings, func(f health.Finding) bool { return f.Status == health.Fail || f.Status == health.Unknown })
		ids := lists.Map(bad, func(f health.Finding) string { return strings.TrimSpace(f.ID + " " + f.Hostname) })
		seen.Saw = "unhealthy: " + strings.Join(slices.Compact(ids), ", ")
	}

	return seen
}

// checkEtcd checks the members on the control planes that were named, or else all of etcd.
func (w Cluster) checkEtcd(ctx context.Context, c Condition, targets []talos.Target) []Seen {
	var named []talos.Target
	if w.Named {
		named = lists.Filter(targets, func(t talos.Target) bool { return t.Type != target.Worker })
	}

	view, err := w.Etcd(ctx, named)
	if err == nil && (!view.Known || len(view.Members) == 0) {
		err = errors.Join(view.Err(true), errors.New("no etcd member is known"))
	}

	seen := func(t talos.Target, err error) Seen {
		s := Seen{Condition: c.Text, Node: t.Address, Hostname: t.Hostname, Met: err == nil, Saw: fmt.Sprintf("healthy, %d members", len(view.Members))}
		if err != nil {
			s.Saw = strings.ReplaceAll(err.Error(), "\n", "; ")
		}

		return s
	}

	if len(named) == 0 {
		return []Seen{seen(talos.Target{}, cmp.Or(err, errors.Join(view.Err(true), view.Healthy(true))))}
	}

	return lists.Map(named, func(t talos.Target) Seen { return seen(t, cmp.Or(err, view.HealthyOn(t))) })
}

func (w Cluster) checkNodes(ctx context.Context, c Condition, targets []talos.Target) ([]Seen, error) {
	out := make([]Seen, len(targets))
	failed := make([]error, len(targets))

	var wg errs.Group

	for i, t := range targets {
		wg.Go(func() {
			// A missing answer is an observation: Ask returns no error.
			met, saw, _ := w.Prober(t).Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
				var (
					saw string
					met bool
				)

				err := errs.Safely(func() (err error) { saw, met, err = c.Ask(ctx, n); return err })
				if final(err) {
					failed[i] = err
				}

				return saw, met, err
			})
			out[i] = Seen{Condition: c.Text, Node: t.Address, Hostname: t.Hostname, Met: met, Saw: saw}
		})
	}

	wg.Wait()

	return out, errors.Join(failed...)
}

// final reports whether waiting cannot help.
func final(err error) bool {
	return err != nil && (errs.ExitCode(err) == errs.Usage || conn.Outdated(err) || conn.OneOf(err, errs.KindPermissionDenied, errs.KindUnimplemented))
}
