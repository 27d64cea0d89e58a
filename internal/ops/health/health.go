// Package health checks whether a cluster is healthy with many small checks in parallel, each with a stable ID and a
// result of its own, so that one node that is down or one failure hides nothing else.
package health

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
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

	denied bool // The certificate does not allow it.
}

// Result is the result of all checks.
type Result struct {
	Healthy  bool      `json:"healthy"`  // Whether no check failed or is unknown, and not all were skipped.
	Scope    string    `json:"scope"`    // Which levels were checked: talos, etcd, kubernetes or full.
	Source   string    `json:"source"`   // client for our own checks, server for the node's own.
	Summary  Summary   `json:"summary"`  // How many findings of each status.
	Findings []Finding `json:"checks"`   // Every finding, by level, check and node; never null.
	Attempts int       `json:"attempts"` // How often the cluster was checked; more than one with --wait.
	// The IDs of the checks that the certificate does not allow, and that were skipped; never null.
	NotAuthorized []string `json:"not_authorized"`
}

// Blind reports whether the certificate allows nothing that says how the cluster is.
func (r Result) Blind() bool {
	return len(r.NotAuthorized) > 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Status != Skip && f.ID != "talos-certificate"
	})
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
	Clock(ctx context.Context, server string) (talos.Clock, error)
	Resources(ctx context.Context, namespace, typ string, labels ...string) ([]talos.Resource, error)
}

// Cluster is the source of the checks.
type Cluster struct {
	// Members are the nodes that discovery lists, and the control planes that only etcd lists.
	Members func(context.Context) ([]talos.Member, error)
	// Affiliates are the machines that discovery knows; nil for those that it lists.
	Affiliates func(context.Context) ([]talos.Member, error)
	// EtcdMembers is etcd's own list, for a certificate that may not read discovery; nil for none.
	EtcdMembers func(context.Context) ([]talos.EtcdMember, error)
	// Only restricts the checks of single nodes to these, whether discovery lists them or not; nil for all. Checks of the
	// cluster as a whole, etcd's quorum above all, are never restricted.
	Only []talos.Target
	Node func(talos.Target) Node
	Etcd func(context.Context, []talos.Target) etcd.View
	// Kubernetes gives access to the API; the error explains why there is none. Denied reports that the certificate
	// does not allow it, which does not make the cluster unhealthy.
	Kubernetes func(context.Context) (k Kubernetes, denied bool, err error)
	Timeout    time.Duration // For all checks.
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
	// Tell receives each finding as soon as it is known, one at a time and in no order; nil for none.
	Tell func(Finding)
}

// IDs lists every check's ID with its title, in order.
func IDs() []Finding {
	return lists.Map(checks(), func(c check) Finding { return Finding{ID: c.id, Title: c.title, Level: c.level} })
}

// check is one check, of the cluster, of each node, or both. Its findings have no ID, title and level, which are added.
type check struct {
	id, title, level string

	cluster func(ctx context.Context, s *survey, found func(Finding))
	node    func(ctx context.Context, s *survey, n *nodeFacts) Finding // A finding without a status is dropped.
	only    func(talos.Member) bool                                    // Which nodes it is about; nil for all.
	silent  bool                                                       // It is about nodes that do not answer, too.
}

// Check runs all checks once. They end with the timeout, whatever hangs.
func Check(ctx context.Context, c Cluster, o Options) Result {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()

	s := newSurvey(ctx, c, o)

	var (
		mu    sync.Mutex
		found []Finding
		wg    errs.Group
	)

	for _, ch := range lists.Filter(checks(), o.wants) {
		start := c.Now()
		take := func(f Finding) {
			f.ID, f.Title, f.Level, f.DurationSeconds = ch.id, ch.title, ch.level, c.Now().Sub(start).Seconds()

			mu.Lock()
			defer mu.Unlock()

			found = append(found, f)

			if o.Tell != nil {
				o.Tell(f)
			}
		}

		part := func(run func()) {
			wg.Go(func() {
				if err := errs.Safely(func() error { run(); return nil }); err != nil {
					take(unknown("the check failed with an internal error", err))
				}
			})
		}

		if ch.cluster != nil {
			part(func() { ch.cluster(ctx, s, take) })
		}

		if ch.node != nil {
			part(func() { s.eachNode(ch, take) })
		}
	}

	wg.Wait()

	mu.Lock()
	defer mu.Unlock()

	return NewResult(o.Scope, "client", found)
}

// NewResult counts and sorts findings.
func NewResult(scope, source string, findings []Finding) Result {
	r := Result{Scope: scope, Source: source, Findings: append([]Finding{}, findings...), Attempts: 1, NotAuthorized: []string{}}
	Sort(r.Findings)

	for _, f := range r.Findings {
		if f.denied && !slices.Contains(r.NotAuthorized, f.ID) {
			r.NotAuthorized = append(r.NotAuthorized, f.ID)
		}

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

	r.Healthy = r.Summary.Fail == 0 && r.Summary.Unknown == 0 && !r.Blind()

	return r
}

// Sort orders findings by check, in the order of the checks, and node.
func Sort(findings []Finding) {
	order := checks()
	at := func(f Finding) int { return slices.IndexFunc(order, func(c check) bool { return c.id == f.ID }) }

	lists.Sort(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), target.CompareAddresses(a.Node, b.Node))
	})
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
