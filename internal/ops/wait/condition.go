// Package wait waits until conditions hold on a cluster and its nodes.
package wait

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// The kinds of conditions.
const (
	Ready    = "ready"
	Healthy  = "healthy"
	Stage    = "stage"
	Version  = "version"
	Etcd     = "etcd"
	Service  = "service"
	Resource = "resource"
	Rebooted = "rebooted"
)

// Forms lists how conditions are written, each with what it means.
func Forms() [][2]string {
	return [][2]string{
		{"ready", "the node runs and nothing is unmet"},
		{"healthy", "every check of `talosmate health` passes"},
		{"stage=STAGE", "the node is in this stage: running, maintenance, …"},
		{"version=VERSION", "the node runs this Talos version"},
		{"etcd=healthy", "one leader, one member list, no alarm, every member answers; with -n only of the control planes that it names"},
		{"service=ID:STATE", "the node's service is healthy, or in this state: running, finished, …"},
		{"resource=TYPE/ID:EXPR", "the resource is there, and a CEL expression over its metadata and spec holds"},
		{"rebooted=BOOT_ID", "the node is in another boot than this one"},
	}
}

// Condition is one condition that is waited for.
type Condition struct {
	Text string // As the user wrote it.
	Kind string

	want string // The stage, the version, the service's state or the boot.
	typ  string // The resource's type.
	id   string // The service or the resource.
	expr *condition.Condition
}

// Parse reads a condition. A mistake in it is a usage error.
func Parse(text string) (Condition, error) {
	kind, value, hasValue := strings.Cut(text, "=")
	c := Condition{Text: text, Kind: kind, want: value}

	switch kind {
	case Ready, Healthy:
		if hasValue {
			return c, errs.Usagef("bad condition %q: %s takes no value", text, kind)
		}

		return c, nil
	case Stage, Version, Rebooted:
	case Etcd:
		if value != Healthy {
			return c, errs.Usagef("bad condition %q: etcd can be waited for as etcd=healthy", text)
		}
	case Service:
		var state string
		if c.id, state, hasValue = strings.Cut(value, ":"); !hasValue {
			state = talos.Healthy
		}

		c.want = strings.ToLower(state)

		if c.id == "" || state == "" {
			return c, errs.Usagef("bad condition %q: want service=ID:STATE", text)
		}
	case Resource:
		return c.parseResource(value)
	default:
		return c, errs.Usagef("unknown condition %q", text).
			WithHint("want one of %s", lists.Join(Forms(), ", ", func(f [2]string) string { return f[0] }))
	}

	if value == "" {
		return c, errs.Usagef("bad condition %q: %s= wants a value", text, kind)
	}

	return c, nil
}

// parseResource takes TYPE/ID:EXPR apart. IDs may hold slashes and colons (eth0/fe80::1/64), so that the
// expression begins after the first colon whose rest is one.
func (c Condition) parseResource(value string) (Condition, error) {
	typ, rest, ok := strings.Cut(value, "/")
	if !ok || typ == "" || rest == "" {
		return c, errs.Usagef("bad condition %q: want resource=TYPE/ID or resource=TYPE/ID:EXPR", c.Text)
	}

	c.typ, c.id = typ, rest

	var first error

	for at := range len(rest) {
		if rest[at] != ':' {
			continue
		}

		expr, err := condition.Compile(rest[at+1:], "metadata", "spec")
		if err == nil {
			c.id, c.expr = rest[:at], expr

			break
		}

		if first == nil {
			first = err
		}
	}

	if c.expr == nil && first != nil {
		return c, first
	}

	if c.id == "" {
		return c, errs.Usagef("bad condition %q: the ID is missing", c.Text)
	}

	return c, nil
}

// OfNode reports whether each node is asked; the others are asked of the cluster.
func (c Condition) OfNode() bool { return c.Kind != Healthy && c.Kind != Etcd }

// OneNode reports whether the condition can be true of one node only.
func (c Condition) OneNode() bool { return c.Kind == Rebooted }

// Ask checks the condition once. saw is what was observed, in words.
func (c Condition) Ask(ctx context.Context, n probe.API) (saw string, met bool, err error) {
	switch c.Kind {
	case Ready, Stage:
		s, err := n.MachineStatus(ctx)
		if c.Kind == Ready {
			return s.String(), s.Settled(), err
		}

		return s.String(), s.Stage == c.want, err
	case Version:
		v, err := n.Version(ctx)

		return "version " + v.Tag, strings.TrimPrefix(v.Tag, "v") == strings.TrimPrefix(c.want, "v"), err
	case Service:
		return c.askService(ctx, n)
	case Resource:
		return c.askResource(ctx, n)
	case Rebooted:
		return c.askBoot(ctx, n)
	default:
		return "", false, errors.New("the condition is not one of a node")
	}
}

func (c Condition) askService(ctx context.Context, n probe.API) (string, bool, error) {
	list, err := n.Services(ctx)
	if err != nil {
		return "", false, err
	}

	at := slices.IndexFunc(list, func(s talos.Service) bool { return s.ID == c.id })
	if at < 0 {
		return "no service " + c.id, false, nil
	}

	s := list[at]

	return c.id + " is " + s.State + " and " + s.Health, s.Health == c.want || s.State == c.want, nil
}

func (c Condition) askResource(ctx context.Context, n probe.API) (string, bool, error) {
	kinds, err := n.ResourceKinds(ctx)
	if err != nil {
		return "", false, err
	}

	kind, err := talos.FindKind(kinds, c.typ)
	if err != nil {
		return "", false, err
	}

	r, err := n.Resource(ctx, kind.DefaultNamespace, kind.Type, c.id)
	if conn.KindOf(err) == errs.KindNotFound {
		return "no " + c.typ + "/" + c.id, false, nil
	}

	if err != nil || c.expr == nil {
		return c.typ + "/" + c.id + " is there", err == nil, err
	}

	held, err := c.expr.Holds(r)
	if err != nil { // A field that is not there yet.
		return err.Error(), false, nil
	}

	if held {
		return "the expression holds", true, nil
	}

	return "the expression does not hold (resource version " + r.Metadata.Version + ")", false, nil
}

// askBoot compares boots only by the same kind of proof: a kernel's boot ID and a time stamp differ always.
func (c Condition) askBoot(ctx context.Context, n probe.API) (string, bool, error) {
	isTime := strings.Contains(c.want, ":")

	proof := ""
	if !isTime {
		proof = talos.ByBootID
	}

	b, err := n.Boot(ctx, proof)
	if err != nil {
		return "", false, err
	}

	if isTime == (b.Proof == talos.ByBootID) {
		return "", false, errs.Usagef("%s is no %s, and only that can be read with this certificate", c.want, b.Proof).
			WithHint("the boot is %s now", b.ID)
	}

	return "boot " + b.ID, b.ID != c.want, nil
}
