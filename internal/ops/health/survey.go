package health

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// survey is shared by the checks: each fact is read once, when the first check needs it.
type survey struct {
	cluster Cluster
	members func() ([]talos.Member, error)
	etcd    func() etcd.View
	kube    func() (Kubernetes, bool, error)
	nodes   func() []*nodeFacts
}

// nodeFacts are the facts of one node, each read once.
type nodeFacts struct {
	member  talos.Member
	version func() (talos.Version, error)
	name    func() (string, error)
	node    Node
	ask     func(func(context.Context) error) error
}

func newSurvey(ctx context.Context, c Cluster) *survey {
	s := &survey{cluster: c}
	s.members = sync.OnceValues(func() ([]talos.Member, error) { return c.Members(ctx) })
	s.etcd = sync.OnceValue(func() etcd.View { return c.Etcd(ctx, s.controlPlanes()) })
	s.kube = onceThree(func() (Kubernetes, bool, error) { return c.Kubernetes(ctx) })
	s.nodes = sync.OnceValue(func() []*nodeFacts {
		members, err := s.members()
		if err != nil {
			return nil
		}

		out := make([]*nodeFacts, 0, len(members))

		for _, m := range members {
			if c.Only == nil || c.Only(m) {
				out = append(out, newNodeFacts(ctx, c, m))
			}
		}

		return out
	})

	return s
}

func newNodeFacts(ctx context.Context, c Cluster, m talos.Member) *nodeFacts {
	n := &nodeFacts{member: m, node: c.Node(m.Target())}
	n.ask = func(fn func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()

		return fn(ctx)
	}
	n.version = sync.OnceValues(func() (v talos.Version, err error) {
		err = n.ask(func(ctx context.Context) error { v, err = n.node.Version(ctx); return err })

		return v, err
	})
	n.name = sync.OnceValues(func() (name string, err error) {
		err = n.ask(func(ctx context.Context) error { name, err = n.node.KubernetesName(ctx); return err })

		return name, err
	})

	return n
}

func onceThree[A, B, C any](fn func() (A, B, C)) func() (A, B, C) {
	var (
		once sync.Once
		a    A
		b    B
		c    C
	)

	return func() (A, B, C) {
		once.Do(func() { a, b, c = fn() })

		return a, b, c
	}
}

func (s *survey) controlPlanes() []talos.Target {
	members, err := s.members()
	if err != nil {
		return nil
	}

	controlPlanes := lists.Filter(members, func(m talos.Member) bool { return m.Type == target.ControlPlane })

	return lists.Map(controlPlanes, talos.Member.Target)
}

// withoutKubernetes reports whether all nodes answered that they are not Kubernetes members. A node that did not answer
// may be one.
func (s *survey) withoutKubernetes() bool {
	nodes := s.nodes()

	for _, n := range nodes {
		if name, err := n.name(); err != nil || name != "" {
			return false
		}
	}

	return len(nodes) > 0
}

// perNode asks every node in parallel. A node that does not report its version is not asked further: the check
// talos-api reports it, everything else about it is unknown.
func (s *survey) perNode(ask func(context.Context, *nodeFacts) Finding, only func(talos.Member) bool) []Finding {
	nodes := s.nodes()
	if nodes == nil {
		_, err := s.members()

		return []Finding{unknown("the members are not known", err)}
	}

	out := make([]Finding, len(nodes))

	var wg errs.Group

	for i, n := range nodes {
		if only != nil && !only(n.member) {
			continue
		}

		wg.Go(func() {
			err := errs.Safely(func() error {
				if _, err := n.version(); err != nil {
					out[i] = unknown("the node does not answer", err)

					return nil
				}

				return n.ask(func(ctx context.Context) error { out[i] = ask(ctx, n); return nil })
			})

			var panicked *errs.Panic
			if errors.As(err, &panicked) {
				out[i] = unknown("the check failed with an internal error", err)
			}

			out[i].Node, out[i].Hostname = n.member.Node, n.member.Hostname
		})
	}

	wg.Wait()

	return slices.DeleteFunc(out, func(f Finding) bool { return f.Status == "" })
}

func ok(message string) Finding { return Finding{Status: OK, Message: message} }

func fail(message, hint string) Finding {
	return Finding{Status: Fail, Message: message, Hint: hint}
}

func unknown(message string, err error) Finding {
	f := Finding{Status: Unknown, Message: message}
	if err != nil {
		f.LastError = err.Error()
	}

	return f
}
