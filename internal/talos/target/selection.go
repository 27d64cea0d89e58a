package target

// Selection is the user's choice of nodes.
type Selection struct {
	Nodes         []string // Addresses, Talos hostnames or Kubernetes node names.
	ControlPlanes bool
	Workers       bool
	All           bool
}

// Explicit reports whether the user chose any nodes.
func (s Selection) Explicit() bool {
	return len(s.Nodes) > 0 || s.ControlPlanes || s.Workers || s.All
}

// Default selects the nodes of a read for which the user chose none.
type Default int

// The defaults.
const (
	DefaultNone          Default = iota // None: the user has to choose.
	DefaultMembers                      // The context's nodes, else every discovered member.
	DefaultCluster                      // Every discovered member: a question about the cluster, whatever the context's nodes.
	DefaultControlPlanes                // Every discovered control plane, whatever the context's nodes.
	DefaultEndpoint                     // The context's nodes, else one endpoint that answers.
)

// OfContext reports whether a talosconfig's nodes narrow the selection.
func (d Default) OfContext() bool { return d == DefaultMembers || d == DefaultEndpoint }

// Sources of a selection, as the document names them.
const (
	SourceFlags     = "flags"
	SourceContext   = "context"
	SourceMembers   = "members"
	SourceEndpoints = "endpoints"
)

// Set is the resolved nodes with the source of the selection.
type Set struct {
	Source string
	Nodes  []Target
	// Outside are the nodes that the selection means and that may not be asked.
	Outside []Target
}

// Addresses lists the targets' addresses.
func (s Set) Addresses() []string {
	out := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		out[i] = n.Address
		if len(n.AnyOf) > 0 {
			return n.AnyOf
		}
	}

	return out
}

// Among returns the members in the sets of the selection, sorted by address.
func (s Selection) Among(members []Member) []Target {
	var out []Target

	for _, m := range members {
		if s.All || (s.ControlPlanes && m.Type == ControlPlane) || (s.Workers && m.Type == Worker) {
			out = append(out, m.Target())
		}
	}

	return Sort(out)
}
