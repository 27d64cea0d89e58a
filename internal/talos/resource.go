package talos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Resource is a Talos (COSI) resource as the node shows it. Its spec keeps the names that Talos uses, also for types
// that this program does not know.
type Resource struct {
	NodeRef

	Metadata ResourceMetadata `json:"metadata"` // The metadata common to all resources.
	Spec     any              `json:"spec"`     // The spec, exactly as Talos names its fields.
}

// ResourceMetadata is the metadata of a resource.
type ResourceMetadata struct {
	Namespace   string            `json:"namespace"`             // The resource's namespace.
	Type        string            `json:"type"`                  // The full type, Members.cluster.talos.dev.
	ID          string            `json:"id"`                    // Its ID within namespace and type.
	Version     string            `json:"version"`               // The version of the resource; "undefined" for none.
	Phase       string            `json:"phase"`                 // running or tearingDown.
	Owner       string            `json:"owner"`                 // The controller that owns it.
	Labels      map[string]string `json:"labels,omitempty"`      // Its labels.
	Annotations map[string]string `json:"annotations,omitempty"` // Its annotations.
	Finalizers  []string          `json:"finalizers,omitempty"`  // The finalizers that delay its removal.
	Created     time.Time         `json:"created"`               // When it was created.
	Updated     time.Time         `json:"updated"`               // When it was last updated.
}

// ResourceKind is a resource type as the node defines it.
type ResourceKind struct {
	Type             string   // The full type.
	DisplayType      string   // The short type.
	DefaultNamespace string   // The namespace of its resources, unless another is given.
	Aliases          []string // All other names, lower case.
	ShortNames       []string // Those of them that are not made of the type.
	Sensitive        bool     // Readable by admins only.
	Columns          []PrintColumn
}

// ResourceType is a resource type as the node defines it, as a row.
type ResourceType struct {
	NodeRef

	Name        string   `json:"name"`        // The shortest plural name that `get` takes, lower case: members.
	Aliases     []string `json:"aliases"`     // The other names of the type that no other type has; never null.
	Kind        string   `json:"kind"`        // The name of one resource: Member.
	Type        string   `json:"type"`        // The full type: Members.cluster.talos.dev.
	Namespace   string   `json:"namespace"`   // The namespace of its resources, unless another is given.
	Sensitivity string   `json:"sensitivity"` // sensitive where only os:admin may read it, else public.
}

// ResourceTypes lists every resource type of the node, sorted by name. Roles: reader, operator, admin.
func (n *Node) ResourceTypes(ctx context.Context) ([]ResourceType, error) {
	kinds, err := n.ResourceKinds(ctx)
	if err != nil {
		return nil, err
	}

	owners := map[string]int{}

	for _, k := range kinds {
		for _, name := range k.ShortNames {
			owners[name]++
		}
	}

	out := lists.Map(kinds, func(k ResourceKind) ResourceType {
		label, _, _ := strings.Cut(k.Type, ".")
		own := lists.Filter(k.ShortNames, func(name string) bool { return owners[name] == 1 })

		t := ResourceType{
			Name: strings.ToLower(label), Aliases: append([]string{}, own...), Kind: k.DisplayType, Type: k.Type,
			Namespace: k.DefaultNamespace, Sensitivity: "public",
		}
		if k.Sensitive {
			t.Sensitivity = "sensitive"
		}

		return t
	})

	lists.Sort(out, func(a, b ResourceType) int { return strings.Compare(a.Name+a.Type, b.Name+b.Type) })

	return out, nil
}

// PrintColumn is a column that a type brings for its tables.
type PrintColumn struct {
	Name     string
	JSONPath string // Of the value in the spec.
}

func (n *Node) state() cosi.StateClient { return cosi.NewStateClient(n.Conn) }

// Resource reads one resource. An empty namespace is the server's error, not a default.
func (n *Node) Resource(ctx context.Context, namespace, typ, id string) (Resource, error) {
	resp, err := n.state().Get(ctx, &cosi.GetRequest{Namespace: namespace, Type: typ, Id: id})
	if err != nil {
		return Resource{}, n.Fail(fmt.Sprintf("read %s/%s", typ, id), err)
	}

	return resourceOf(n, resp.GetResource())
}

// Resources lists the resources of a type, sorted by ID. labels are COSI label selectors, all of which
// must match: `key`, `key=value`.
func (n *Node) Resources(ctx context.Context, namespace, typ string, labels ...string) ([]Resource, error) {
	op := "list " + typ

	ctx, cancel := conn.Bounded(ctx)
	defer cancel()

	out := []Resource{}

	err := conn.List(ctx, n.Conn, op, func(ctx context.Context) (grpc.ServerStreamingClient[cosi.ListResponse], error) {
		return n.state().List(ctx, &cosi.ListRequest{Namespace: namespace, Type: typ, Options: &cosi.ListOptions{LabelQuery: labelQuery(labels)}})
	}, func(resp *cosi.ListResponse) error {
		r, err := resourceOf(n, resp.GetResource())
		out = append(out, r)

		return n.Fail(op, err)
	})

	lists.Sort(out, func(a, b Resource) int { return strings.Compare(a.Metadata.ID, b.Metadata.ID) })

	return out, err
}

// ResourceEvent is one change of a watched resource.
type ResourceEvent struct {
	NodeRef

	Event    string           `json:"event"`           // created, updated, destroyed or bootstrapped (the list is complete).
	Metadata ResourceMetadata `json:"metadata"`        // The resource's metadata after the change.
	Spec     any              `json:"spec,omitempty"`  // Its spec after the change.
	Time     time.Time        `json:"time"`            // When the event was received.
	Message  string           `json:"error,omitempty"` // Why the watch ended, if it did.
}

// WatchResources calls fn with the present resources and then with every change, until ctx ends or the
// stream breaks. An empty id watches the whole type.
func (n *Node) WatchResources(ctx context.Context, namespace, typ, id string, labels []string, fn func(ResourceEvent) error) error {
	op := "watch " + typ
	req := &cosi.WatchRequest{Namespace: namespace, Type: typ, ApiVersion: 1}

	if id != "" {
		req.Id = &id
	} else {
		req.Options = &cosi.WatchOptions{BootstrapContents: true, LabelQuery: labelQuery(labels)}
	}

	return conn.Pull(ctx, n.Conn, op, 0, func(ctx context.Context) (grpc.ServerStreamingClient[cosi.WatchResponse], error) {
		return n.state().Watch(ctx, req)
	}, func(resp *cosi.WatchResponse) error {
		for _, e := range resp.GetEvent() {
			ev := ResourceEvent{Event: strings.ToLower(e.GetEventType().String()), Time: time.Now().UTC()}
			ev.SetNode(n.Target)

			if raw := e.GetResource(); raw != nil {
				r, err := resourceOf(n, raw)
				if err != nil {
					return n.Fail(op, err)
				}

				ev.Metadata, ev.Spec = r.Metadata, r.Spec
			}

			ev.Message = e.GetError()

			if err := fn(ev); err != nil {
				return err
			}
		}

		return nil
	})
}

// ResourceKinds lists every resource type of the node.
func (n *Node) ResourceKinds(ctx context.Context) ([]ResourceKind, error) {
	defs, err := n.Resources(ctx, "meta", "ResourceDefinitions.meta.cosi.dev")
	if err != nil {
		return nil, err
	}

	out := make([]ResourceKind, 0, len(defs))

	for _, d := range defs {
		spec, err := Decode[struct {
			Type             string   `json:"type"`
			DisplayType      string   `json:"displayType"`
			DefaultNamespace string   `json:"defaultNamespace"`
			Aliases          []string `json:"aliases"`
			AllAliases       []string `json:"allAliases"`
			Sensitivity      string   `json:"sensitivity"`
			PrintColumns     []struct {
				Name     string `json:"name"`
				JSONPath string `json:"jsonPath"`
			} `json:"printColumns"`
		}](d)
		if err != nil {
			return nil, n.Fail("read the resource definitions", err)
		}

		kind := ResourceKind{
			Type: spec.Type, DisplayType: spec.DisplayType, DefaultNamespace: spec.DefaultNamespace,
			Aliases: append(spec.AllAliases, spec.Aliases...), ShortNames: spec.Aliases, Sensitive: spec.Sensitivity == "sensitive",
		}

		for _, c := range spec.PrintColumns[:min(len(spec.PrintColumns), maxPrintColumns)] {
			kind.Columns = append(kind.Columns, PrintColumn{Name: c.Name, JSONPath: c.JSONPath})
		}

		out = append(out, kind)
	}

	return out, nil
}

// ResourceKinds lists every resource type of a node. Nodes of one release have the same types: in a cluster whose members run
// one, an endpoint is asked for all of them, once.
func (c *Cluster) ResourceKinds(ctx context.Context, n *Node) ([]ResourceKind, error) {
	if c.Options.Insecure || len(n.AnyOf) > 0 {
		return n.ResourceKinds(ctx)
	}

	if members, err := c.Members(ctx); err == nil && ofOneRelease(members, n.Target) {
		if kinds, err := c.commonKinds(ctx); err == nil {
			return kinds, nil
		}
	}

	return n.ResourceKinds(ctx)
}

// commonKinds asks an endpoint for its types, once. Whoever is first waits for the answer, so that its context lasts.
func (c *Cluster) commonKinds(ctx context.Context) ([]ResourceKind, error) {
	c.mu.Lock()
	if c.kinds == nil {
		c.kinds = sync.OnceValues(func() ([]ResourceKind, error) { return c.Endpoint().ResourceKinds(ctx) })
	}

	ask := c.kinds
	c.mu.Unlock()

	return ask()
}

// ofOneRelease reports whether a node is a member, and all members run the same release.
func ofOneRelease(members []Member, t Target) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Is(t) }) &&
		!slices.ContainsFunc(members, func(m Member) bool { return m.TalosVersion == "" || m.TalosVersion != members[0].TalosVersion })
}

// maxPrintColumns bounds the columns that a node defines for a type; Talos has at most ten.
const maxPrintColumns = 20

// FindKind resolves a type's name, alias or short name, as `talosctl get` does.
func FindKind(kinds []ResourceKind, name string) (ResourceKind, error) {
	same := func(s string) bool { return strings.EqualFold(s, name) }
	found := lists.Filter(kinds, func(k ResourceKind) bool { return same(k.Type) || slices.ContainsFunc(k.Aliases, same) })

	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return ResourceKind{}, errs.Usagef("no resource type is called %q", name).
			WithHint("talosmate api-resources")
	default:
		return ResourceKind{}, errs.Usagef("resource type %q is ambiguous: %s", name,
			lists.Join(found, ", ", func(k ResourceKind) string { return k.Type }))
	}
}

// Decode reads a resource's spec into a struct with JSON tags.
func Decode[T any](r Resource) (T, error) {
	var out T

	raw, err := json.Marshal(r.Spec)
	if err != nil {
		return out, fmt.Errorf("cannot encode %s/%s: %w", r.Metadata.Type, r.Metadata.ID, err)
	}

	if err = foreign.JSON(raw, &out); err != nil {
		return out, fmt.Errorf("cannot decode %s/%s: %w", r.Metadata.Type, r.Metadata.ID, err)
	}

	return out, nil
}

func resourceOf(n *Node, raw *cosi.Resource) (Resource, error) {
	md := raw.GetMetadata()
	out := Resource{
		Metadata: ResourceMetadata{
			Namespace: md.GetNamespace(), Type: md.GetType(), ID: md.GetId(), Version: md.GetVersion(), Phase: md.GetPhase(),
			Owner: md.GetOwner(), Labels: md.GetLabels(), Annotations: md.GetAnnotations(), Finalizers: md.GetFinalizers(),
			Created: stamp(md.GetCreated()), Updated: stamp(md.GetUpdated()),
		},
	}
	out.SetNode(n.Target)

	spec, err := decodeSpec([]byte(raw.GetSpec().GetYamlSpec()))
	if err != nil {
		return out, n.Fail(fmt.Sprintf("read the spec of %s/%s", md.GetType(), md.GetId()), err)
	}

	out.Spec = spec

	return out, nil
}

func labelQuery(selectors []string) []*cosi.LabelQuery {
	if len(selectors) == 0 {
		return nil
	}

	q := &cosi.LabelQuery{}

	for _, s := range selectors {
		key, value, equals := strings.Cut(s, "=")
		term := &cosi.LabelTerm{Key: strings.TrimSuffix(key, "!"), Op: cosi.LabelTerm_EXISTS, Invert: strings.HasSuffix(key, "!")}

		if equals {
			term.Op, term.Value = cosi.LabelTerm_EQUAL, []string{value}
		}

		q.Terms = append(q.Terms, term)
	}

	return []*cosi.LabelQuery{q}
}

// decodeSpec turns the node's YAML into values that encode to JSON without loss: big integers stay integers, keys
// become text, time stamps stay as written.
func decodeSpec(text []byte) (any, error) {
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // a resource without a spec
	}

	doc, err := foreign.Document(text)
	if err != nil || doc.IsZero() {
		return nil, err
	}

	return plainValue(doc)
}

func plainValue(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 0 {
			return nil, nil //nolint:nilnil // an empty document
		}

		return plainValue(n.Content[0])
	case yaml.AliasNode:
		return plainValue(n.Alias)
	case yaml.SequenceNode:
		out := make([]any, len(n.Content))

		for i, child := range n.Content {
			var err error
			if out[i], err = plainValue(child); err != nil {
				return nil, err
			}
		}

		return out, nil
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)

		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := plainValue(n.Content[i+1])
			if err != nil {
				return nil, err
			}

			out[n.Content[i].Value] = v
		}

		return out, nil
	case yaml.ScalarNode:
		return scalarValue(n)
	default:
		return nil, fmt.Errorf("unexpected YAML at line %d", n.Line)
	}
}

func scalarValue(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil //nolint:nilnil // YAML's null
	case "!!bool":
		var b bool
		err := n.Decode(&b)

		return b, err
	case "!!int":
		var u uint64
		if err := n.Decode(&u); err == nil {
			return u, nil
		}

		var i int64
		if err := n.Decode(&i); err == nil {
			return i, nil
		}

		return n.Value, nil
	case "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}

		return n.Value, nil
	default:
		return n.Value, nil
	}
}

// View is a typed view of a resource type: S is the spec with the fields that the row needs, under Talos's own names; T
// is our row. Lists over resources differ in nothing else.
type View[S, T any] struct {
	Namespace string
	Type      string
	Since     string // The Talos release that has the type first; an older node is an error. Empty for all.
	// Row makes a row from one resource.
	Row func(id string, spec S) T
}

// List reads every resource of the view's type, sorted by ID. Roles: reader, operator, admin.
func (v View[S, T]) List(ctx context.Context, n *Node) ([]T, error) {
	list, err := n.Resources(ctx, v.Namespace, v.Type)
	if len(list) == 0 && v.Since != "" && !conn.OneOf(err, errs.KindUnreachable, errs.KindTimeout) {
		if old := n.needs(ctx, v.Type, v.Since); old != nil {
			return nil, old
		}
	}

	if err != nil {
		return nil, err
	}

	out := make([]T, 0, len(list))

	for _, r := range list {
		spec, err := Decode[S](r)
		if err != nil {
			return nil, n.Fail("read "+v.Type, err)
		}

		out = append(out, v.Row(r.Metadata.ID, spec))
	}

	return out, nil
}

// needs fails if the node runs a release that does not have a resource type. Talos refuses an unknown type or namespace
// as if the certificate did not suffice (`resource type "…" is not supported`), and in maintenance mode lists nothing.
func (n *Node) needs(ctx context.Context, typ, since string) error {
	v, err := n.Version(ctx)
	if err != nil || release.Minor(v.Tag) >= release.Minor(since) {
		return err
	}

	return errs.New(errs.Failed, "cannot list %s on %s: Talos %s does not have it", typ, n.Name(), v.Tag).
		OnNode(n.Address).WithKind(errs.KindUnimplemented).WithHint("it came with Talos %s", since)
}
