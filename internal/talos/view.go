package talos

import "context"

// View is a typed view of a resource type: S is the spec with the fields that the row needs, under Talos's own names; T
// is our row. Lists over resources differ in nothing else.
type View[S, T any] struct {
	Namespace string
	Type      string
	// Row makes a row from one resource.
	Row func(id string, spec S) T
}

// List reads every resource of the view's type, sorted by ID. Roles: reader, operator, admin.
func (v View[S, T]) List(ctx context.Context, n *Node) ([]T, error) {
	list, err := n.Resources(ctx, v.Namespace, v.Type)
	if err != nil {
		return nil, err
	}

	out := make([]T, 0, len(list))

	for _, r := range list {
		spec, err := Decode[S](r)
		if err != nil {
			return nil, n.fail("read "+v.Type, err)
		}

		out = append(out, v.Row(r.Metadata.ID, spec))
	}

	return out, nil
}
