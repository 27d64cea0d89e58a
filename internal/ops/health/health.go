// Package health checks whether a cluster is healthy with many small checks in parallel, each with a stable ID and a
// result of its own, so that one node that is down or one failure hides nothing else.
package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// Levels, in the order in which a cluster starts.
const (
	LevelTalos      = "talos"
	LevelEtcd       = "etcd"
	LevelKubernetes = "kubernetes"
	ScopeFull       = "full"
)

// Scopes lists the values of --scope. Each includes the levels before it; full is all of them.
func Scopes() []string { return []string{LevelTalos, LevelEtcd, LevelKubernetes, ScopeFull} }

// Statuses of a finding.
const (
	OK      = "ok"
	Fail    = "fail"
	Warn    = "warn"
	Skip    = "skip"    // Not checked, and why.
	Unknown = "unknown" // Checked, without an answer.
)

// Finding is the result of one check on one node or on the cluster.
type Finding struct {
	ID              string  `json:"id"`                   // The check's stable code.
	Title           string  `json:"title"`                // The check's title.
	Level           string  `json:"level"`                // talos, etcd or kubernetes.
	Status          string  `json:"status"`               // ok, fail, warn, skip or unknown.
	Node            string  `json:"node,omitempty"`       // The node's address, empty for the cluster.
	Hostname        string  `json:"hostname,omitempty"`   // The node's hostname, where known.
	Message         string  `json:"message"`              // What was found.
	LastError       string  `json:"last_error,omitempty"` // The error behind it, if any.
	DurationSeconds float64 `json:"duration_seconds"`     // How long the check took.
	Hint            string  `json:"hint,omitempty"`       // What to do about it.
}

// Result is the result of all checks.
type Result struct {
	Healthy  bool      `json:"healthy"`  // Whether no check failed or is unknown.
	Scope    string    `json:"scope"`    // Which levels were checked: talos, etcd, kubernetes or full.
	Source   string    `json:"source"`   // client for our own checks, server for the node's own.
	Summary  Summary   `json:"summary"`  // How many findings of each status.
	Findings []Finding `json:"checks"`   // Every finding, by level, check and node; never null.
	Attempts int       `json:"attempts"` // How often the cluster was checked; more than one with --wait.
}

// Summary counts findings.
type Summary struct {
	OK      int `json:"ok"`      // Checks that passed.
	Fail    int `json:"fail"`    // Checks that failed.
	Warn    int `json:"warn"`    // Checks with a warning.
	Skip    int `json:"skip"`    // Checks that were skipped.
	Unknown int `json:"unknown"` // Checks without an answer.
}

// Node has the calls that the checks make to one node; *talos.Node implements it.
type Node interface {
	Version(ctx context.Context) (talos.Version, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	Services(ctx context.Context) ([]talos.Service, error)
	Mounts(ctx context.Context) ([]talos.Mount, error)
	KubernetesName(ctx context.Context) (string, error)
	TimeStatus(ctx context.Context) (status talos.TimeStatus, known bool, err error)
	Resources(ctx context.Context, namespace, typ string, labels ...string) ([]talos.Resource, error)
}

// Cluster is the source of the checks.
type Cluster struct {
	Members func(context.Context) ([]talos.Member, error)
	// Only restricts the checks of single nodes; nil for all. Checks of the cluster as a whole, etcd's quorum above
	// all, are never restricted.
	Only func(talos.Member) bool
	Node func(talos.Target) Node
	Etcd func(context.Context, []talos.Target) etcd.View
	// Kubernetes gives access to the API; the error explains why there is none. Denied reports that the certificate
	// does not allow it, which does not make the cluster unhealthy.
	Kubernetes func(context.Context) (k Kubernetes, denied bool, err error)
	Timeout    time.Duration // Per node.
	Expires    time.Time     // When the client certificate expires; zero for unknown.
	Now        func() time.Time
}

// Kubernetes has the calls that the checks make to the Kubernetes API; *kube.Client implements it.
type Kubernetes interface {
	Nodes(ctx context.Context) ([]kube.Node, error)
	Workloads(ctx context.Context) ([]kube.Workload, error)
}

// Options select checks.
type Options struct {
	Scope string
	Skip  []string // IDs to skip.
	Only  []string // IDs to run, all when empty.
}

// IDs lists every check's ID with its title, in order.
func IDs() []Finding {
	return lists.Map(checks(), func(c check) Finding { return Finding{ID: c.id, Title: c.title, Level: c.level} })
}

// check is one check. ask returns findings without ID, title and level, which are added.
type check struct {
	id, title, level string
	ask              func(context.Context, *survey) []Finding
}

// Check runs all checks once.
func Check(ctx context.Context, c Cluster, o Options) Result {
	s := newSurvey(ctx, c)

	chosen := lists.Filter(checks(), o.wants)
	found := make([][]Finding, len(chosen))

	var wg errs.Group

	for i, ch := range chosen {
		wg.Go(func() {
			start := c.Now()
			if err := errs.Safely(func() error { found[i] = ch.ask(ctx, s); return nil }); err != nil {
				found[i] = []Finding{unknown("the check failed with an internal error", err)}
			}

			took := c.Now().Sub(start).Seconds()

			for j := range found[i] {
				f := &found[i][j]
				f.ID, f.Title, f.Level, f.DurationSeconds = ch.id, ch.title, ch.level, took
			}
		})
	}

	wg.Wait()

	return NewResult(o.Scope, "client", slices.Concat(found...))
}

// NewResult counts and sorts findings.
func NewResult(scope, source string, findings []Finding) Result {
	r := Result{Scope: scope, Source: source, Findings: findings, Attempts: 1}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}

	for _, f := range findings {
		switch f.Status {
		case OK:
			r.Summary.OK++
		case Fail:
			r.Summary.Fail++
		case Warn:
			r.Summary.Warn++
		case Skip:
			r.Summary.Skip++
		default:
			r.Summary.Unknown++
		}
	}

	r.Healthy = r.Summary.Fail == 0 && r.Summary.Unknown == 0

	return r
}

func (o Options) wants(c check) bool {
	if slices.Contains(o.Skip, c.id) || (len(o.Only) > 0 && !slices.Contains(o.Only, c.id)) {
		return false
	}

	at := slices.Index(Scopes(), c.level)
	scope := slices.Index(Scopes(), o.Scope)

	return at <= scope
}

// Validate reports an unknown scope or ID.
func (o Options) Validate() error {
	if !slices.Contains(Scopes(), o.Scope) {
		return fmt.Errorf("unknown scope %q, want one of %s", o.Scope, strings.Join(Scopes(), ", "))
	}

	known := IDs()

	for _, id := range slices.Concat(o.Skip, o.Only) {
		if !slices.ContainsFunc(known, func(f Finding) bool { return f.ID == id }) {
			return fmt.Errorf("unknown check %q, want one of %s", id, lists.Join(known, ", ", func(f Finding) string { return f.ID }))
		}
	}

	return nil
}
