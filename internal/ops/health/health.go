// Package health asks a cluster whether it is well: many small checks side by side, each with a stable ID
// and an answer of its own, so that one dead node or one failure hides nothing else.
package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
)

// Levels, in the order in which a cluster comes up.
const (
	LevelTalos      = "talos"
	LevelEtcd       = "etcd"
	LevelKubernetes = "kubernetes"
)

// Scopes lists the values of --scope. Each holds the levels before it; full is all of them.
func Scopes() []string { return []string{LevelTalos, LevelEtcd, LevelKubernetes, "full"} }

// Status words of a finding.
const (
	OK      = "ok"
	Fail    = "fail"
	Warn    = "warn"
	Skip    = "skip"    // Not asked, and why.
	Unknown = "unknown" // Asked, and no answer.
)

// Finding is what one check found on one node or on the cluster.
type Finding struct {
	ID              string  `json:"id"`                   // The check's stable code.
	Title           string  `json:"title"`                // What it asks.
	Level           string  `json:"level"`                // talos, etcd or kubernetes.
	Status          string  `json:"status"`               // ok, fail, warn, skip or unknown.
	Node            string  `json:"node,omitempty"`       // The node's address, empty for the cluster.
	Hostname        string  `json:"hostname,omitempty"`   // The node's hostname, where known.
	Message         string  `json:"message"`              // What was found.
	LastError       string  `json:"last_error,omitempty"` // The error behind it, if any.
	DurationSeconds float64 `json:"duration_seconds"`     // How long the check took.
	Hint            string  `json:"hint,omitempty"`       // What to do about it.
}

// Result is the whole answer.
type Result struct {
	Healthy  bool      `json:"healthy"`  // Whether no check failed or stayed unknown.
	Scope    string    `json:"scope"`    // How far up was asked: talos, etcd, kubernetes or full.
	Source   string    `json:"source"`   // client for our own checks, server for the node's own.
	Summary  Summary   `json:"summary"`  // How many findings of each status.
	Findings []Finding `json:"checks"`   // Every finding, by level, check and node; never null.
	Attempts int       `json:"attempts"` // How often the cluster was looked at; more than one with --wait.
}

// Summary counts findings.
type Summary struct {
	OK      int `json:"ok"`      // Checks that passed.
	Fail    int `json:"fail"`    // Checks that failed.
	Warn    int `json:"warn"`    // Checks with something to look at.
	Skip    int `json:"skip"`    // Checks that were not asked.
	Unknown int `json:"unknown"` // Checks without an answer.
}

// Node is what the checks ask of one node; *talos.Node is one.
type Node interface {
	Version(ctx context.Context) (talos.Version, error)
	MachineStatus(ctx context.Context) (talos.MachineStatus, error)
	Services(ctx context.Context) ([]talos.Service, error)
	Mounts(ctx context.Context) ([]talos.Mount, error)
	KubernetesName(ctx context.Context) (string, error)
	TimeStatus(ctx context.Context) (status talos.TimeStatus, known bool, err error)
	Resources(ctx context.Context, namespace, typ string, labels ...string) ([]talos.Resource, error)
}

// Cluster is what the checks are asked of.
type Cluster struct {
	Members func(context.Context) ([]talos.Member, error)
	// Only narrows the checks of single nodes; nil for all. What is true of the cluster as a whole, etcd's
	// quorum above all, is never asked of a part of it.
	Only func(talos.Member) bool
	Node func(talos.Target) Node
	Etcd func(context.Context, []talos.Target) etcd.View
	// Kubernetes gives access to the API; the error says why there is none. Denied tells that the certificate
	// does not allow to ask, which is no illness.
	Kubernetes func(context.Context) (k Kubernetes, denied bool, err error)
	Timeout    time.Duration // Per node.
	Expires    time.Time     // When the client certificate expires; zero for unknown.
	Now        func() time.Time
}

// Kubernetes is what the checks ask of the Kubernetes API; *kube.Client is one.
type Kubernetes interface {
	Nodes(ctx context.Context) ([]kube.Node, error)
	Workloads(ctx context.Context) ([]kube.Workload, error)
}

// Options choose among the checks.
type Options struct {
	Scope string
	Skip  []string // IDs to leave out.
	Only  []string // IDs to run, all when empty.
}

// IDs lists every check's ID with its title, in order.
func IDs() []Finding {
	out := []Finding{}
	for _, c := range checks() {
		out = append(out, Finding{ID: c.id, Title: c.title, Level: c.level})
	}

	return out
}

// check is one question. ask returns findings without ID, title and level; those are filled in.
type check struct {
	id, title, level string
	ask              func(context.Context, *survey) []Finding
}

// Check asks everything once.
func Check(ctx context.Context, c Cluster, o Options) Result {
	s := newSurvey(ctx, c)

	var chosen []check

	for _, ch := range checks() {
		if o.wants(ch) {
			chosen = append(chosen, ch)
		}
	}

	found := make([][]Finding, len(chosen))

	var wg errs.Group

	for i, ch := range chosen {
		wg.Go(func() {
			start := c.Now()
			if err := errs.Safely(func() error { found[i] = ch.ask(ctx, s); return nil }); err != nil {
				found[i] = []Finding{unknown("the check broke", err)}
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

// Validate names the wrong scope or ID.
func (o Options) Validate() error {
	if !slices.Contains(Scopes(), o.Scope) {
		return fmt.Errorf("unknown scope %q, want one of %s", o.Scope, strings.Join(Scopes(), ", "))
	}

	known := IDs()

	for _, id := range slices.Concat(o.Skip, o.Only) {
		if !slices.ContainsFunc(known, func(f Finding) bool { return f.ID == id }) {
			names := make([]string, len(known))
			for i, f := range known {
				names[i] = f.ID
			}

			return fmt.Errorf("unknown check %q, want one of %s", id, strings.Join(names, ", "))
		}
	}

	return nil
}
