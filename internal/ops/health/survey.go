package health

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// survey is shared by the checks: each fact is read once, when the first check needs it.
type survey struct {
	cluster Cluster
	options Options

	members   func() ([]talos.Member, error) // Discovery's members, and the control planes that only etcd lists.
	unlisted  func() []talos.Member          // Machines that discovery knows and does not list: another one has their hostname.
	listed    func() []*nodeFacts            // The nodes of these lists.
	others    func() []*nodeFacts            // Those that only Kubernetes or the user names.
	etcd      func() etcd.View
	kube      func() (Kubernetes, bool, error)
	kubeNodes func() ([]kube.Node, error)
	etcdState func() etcdState

	withoutKubernetes func() bool // Whether no node that answers is a Kubernetes member.
}

// nodeFacts are the facts of one node, each read once.
type nodeFacts struct {
	member   talos.Member
	unlisted bool // Discovery knows the machine and does not list it.
	version  func() (talos.Version, error)
	name     func() (string, error)
	services func() ([]talos.Service, error)
	gone     func() string // Why it is not part of the cluster any more, empty when it is or may be.
	node     Node
	ask      func(func(context.Context) error) error
}

func newSurvey(ctx context.Context, c Cluster, o Options) *survey {
	s := &survey{cluster: c, options: o}
	s.members = sync.OnceValues(func() ([]talos.Member, error) { return c.Members(ctx) })
	s.unlisted = sync.OnceValue(func() []talos.Member { return s.findUnlisted(ctx) })
	s.etcd = sync.OnceValue(func() etcd.View { return c.Etcd(ctx, s.controlPlanes(ctx)) })
	s.etcdState = sync.OnceValue(s.findEtcdState)
	s.kube = onceThree(func() (Kubernetes, bool, error) { return c.Kubernetes(ctx) })
	s.kubeNodes = sync.OnceValues(func() ([]kube.Node, error) {
		k, _, err := s.kube()
		if err != nil {
			return nil, err
		}

		return k.Nodes(ctx)
	})
	s.withoutKubernetes = sync.OnceValue(s.findWithoutKubernetes)
	s.listed = sync.OnceValue(func() []*nodeFacts {
		members, err := s.members()
		if err != nil {
			return nil
		}

		out := []*nodeFacts{}

		for _, m := range members {
			out = append(out, s.newNodeFacts(ctx, m))
		}

		for _, m := range s.unlisted() {
			n := s.newNodeFacts(ctx, m)
			n.unlisted = true
			out = append(out, n)
		}

		lists.Sort(out, byAddress)

		return out
	})
	s.others = sync.OnceValue(func() []*nodeFacts {
		return lists.Map(s.findOthers(), func(m talos.Member) *nodeFacts { return s.newNodeFacts(ctx, m) })
	})

	return s
}

func byAddress(a, b *nodeFacts) int { return target.CompareAddresses(a.member.Node, b.member.Node) }

// all returns every node of the cluster that is known, sorted by address.
func (s *survey) all() []*nodeFacts {
	out := slices.Concat(s.listed(), s.others())
	lists.Sort(out, byAddress)

	return out
}

// chosenOf returns the nodes that the user chose.
func (s *survey) chosenOf(nodes []*nodeFacts) []*nodeFacts {
	return lists.Filter(nodes, func(n *nodeFacts) bool {
		return s.cluster.Only == nil || slices.ContainsFunc(s.cluster.Only, n.member.Is)
	})
}

// undiscovered reports whether discovery lists nobody.
func (s *survey) undiscovered() bool {
	members, err := s.members()

	return err == nil && !slices.ContainsFunc(members, func(m talos.Member) bool { return m.Source != target.FromEtcd })
}

// findOthers returns the nodes that the user named and, without discovery, those of Kubernetes that nobody else lists.
func (s *survey) findOthers() []talos.Member {
	var out []talos.Member

	members, err := s.members()
	if err != nil {
		return nil
	}

	known := func(t talos.Target) bool {
		return slices.ContainsFunc(slices.Concat(members, s.unlisted(), out), func(m talos.Member) bool { return m.Is(t) })
	}

	for _, t := range s.cluster.Only {
		if !known(t) {
			out = append(out, memberAt(t))
		}
	}

	if !s.undiscovered() {
		return out
	}

	nodes, _ := s.knownKubeNodes() // the check of discovery reports that they are not known

	for _, n := range probe.Undiscovered(slices.Concat(members, out), nodes) {
		if n.Source == "" && n.Node != "" {
			out = append(out, n.Member)
		}
	}

	return out
}

func memberAt(t talos.Target) talos.Member {
	m := talos.Member{Addresses: t.Addresses, Type: t.Type, NodeID: t.ID, Sure: t.Sure}
	m.Node, m.Hostname = t.Address, t.Hostname

	return m
}

func (s *survey) newNodeFacts(ctx context.Context, m talos.Member) *nodeFacts {
	n := &nodeFacts{member: m, node: s.cluster.Node(m.Target())}
	n.ask = func(fn func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, s.cluster.Timeout)
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
	n.services = sync.OnceValues(func() (list []talos.Service, err error) {
		err = n.ask(func(ctx context.Context) error { list, err = n.node.Services(ctx); return err })

		return list, err
	})
	n.gone = sync.OnceValue(func() string { return s.findGone(n) })

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

// chosen reports whether a check is among those that run.
func (s *survey) chosen(id string) bool {
	return slices.ContainsFunc(checks(), func(c check) bool { return c.id == id && s.options.wants(c) })
}

// once returns the finding of the check that reports a cause; other checks are skipped with a reference to it. Where the
// reporting check does not run, each reports the cause.
func (s *survey) once(reporter, id string, f Finding) Finding {
	if id == reporter || !s.chosen(reporter) {
		return f
	}

	return Finding{Status: Skip, Message: f.Message, denied: f.denied}
}

// findUnlisted lists the machines whose hostname another machine has. Talos lists members by hostname, affiliates by
// identity. An affiliate at the address of a member is an earlier installation of it.
func (s *survey) findUnlisted(ctx context.Context) []talos.Member {
	members, err := s.members()
	if err != nil || s.cluster.Affiliates == nil {
		return nil
	}

	affiliates, err := s.cluster.Affiliates(ctx)
	if err != nil {
		return nil
	}

	var out []talos.Member

	for _, a := range affiliates {
		own := slices.IndexFunc(a.Addresses, func(address string) bool { return target.ByAddress(members, address) == nil })
		if own < 0 || a.Hostname == "" || slices.ContainsFunc(members, func(m talos.Member) bool { return m.NodeID == a.NodeID }) {
			continue
		}

		a.Node = a.Addresses[own]
		out = append(out, a)
	}

	return out
}

// twin is the node that is listed under the hostname of another one, nil for none.
func (s *survey) twin(n *nodeFacts) *nodeFacts {
	for _, other := range s.listed() {
		if other != n && n.member.Hostname != "" && strings.EqualFold(other.member.Hostname, n.member.Hostname) {
			return other
		}
	}

	return nil
}

// findGone reports why a node that does not answer is not part of the cluster: discovery forgets it half an hour after it
// last announced itself.
func (s *survey) findGone(n *nodeFacts) string {
	if n.member.Source == "" {
		return "" // no list has it that would forget it
	}

	if twin := s.twin(n); twin != nil {
		if _, err := twin.version(); err == nil {
			return "another machine has its hostname, at " + twin.member.Node + ": it was replaced"
		}
	}

	has := n.member.Target().Has
	lists := "etcd"

	if n.member.Type == target.ControlPlane {
		view := s.etcd()
		if !view.Known || slices.ContainsFunc(view.Members, func(m etcd.Member) bool { return has(m.Node) }) {
			return ""
		}
	}

	switch nodes, known := s.knownKubeNodes(); {
	case known && slices.ContainsFunc(nodes, func(k kube.Node) bool { return probe.IsNode(n.member, k) }):
		return ""
	case known && n.member.Type == target.ControlPlane:
		lists = "neither etcd nor Kubernetes"
	case known:
		lists = "Kubernetes"
	case n.member.Type != target.ControlPlane:
		return ""
	}

	verb := " does not"
	if strings.HasPrefix(lists, "neither") {
		verb = " does"
	}

	return "discovery still lists it and " + lists + verb + ": it was removed or replaced, or has not joined yet"
}

// knownKubeNodes lists the nodes of Kubernetes, where the checks may ask it.
func (s *survey) knownKubeNodes() ([]kube.Node, bool) {
	if !s.chosen("kubernetes-nodes") || s.withoutKubernetes() {
		return nil, false
	}

	nodes, err := s.kubeNodes()

	return nodes, err == nil
}

// controlPlanes are the nodes that etcd runs on. A certificate that may not read discovery may read etcd's own list.
func (s *survey) controlPlanes(ctx context.Context) []talos.Target {
	members, err := s.members()
	if err != nil {
		if !denied(err) || s.cluster.EtcdMembers == nil {
			return nil
		}

		list, _ := s.cluster.EtcdMembers(ctx) // without a list etcd is not known

		return etcd.Targets(list)
	}

	controlPlanes := lists.Filter(slices.Concat(members, s.unlisted()), func(m talos.Member) bool { return m.Type == target.ControlPlane })

	return lists.Map(controlPlanes, talos.Member.Target)
}

// findWithoutKubernetes asks all nodes. One that is a Kubernetes member decides, without the answers of the others.
func (s *survey) findWithoutKubernetes() bool {
	type answer struct{ came, member bool }

	nodes := s.listed()
	answers := make(chan answer, len(nodes))

	for _, n := range nodes {
		go func() {
			a := answer{}

			_ = errs.Safely(func() error { // a node that does not answer decides nothing
				if _, err := n.version(); err != nil {
					return err
				}

				name, err := n.name()
				a = answer{came: true, member: err != nil || name != ""}

				return nil
			})

			answers <- a
		}()
	}

	came := false

	for range nodes {
		a := <-answers
		if a.member {
			return false
		}

		came = came || a.came
	}

	return came
}

// denied reports whether the certificate does not allow a request.
func denied(err error) bool { return conn.KindOf(err) == errs.KindPermissionDenied }

// eachNode asks every node in parallel, and passes on each finding as soon as it is known.
func (s *survey) eachNode(ch check, found func(Finding)) {
	if _, err := s.members(); err != nil && ch.cluster != nil {
		return // it says why
	} else if err != nil {
		found(s.once("talos-discovery", ch.id, noMembers(err)))

		return
	}

	var wg errs.Group

	// The others are not known before Kubernetes has answered, which the listed ones need not wait for.
	for _, known := range []func() []*nodeFacts{s.listed, s.others} {
		for _, n := range s.chosenOf(known()) {
			if ch.only != nil && !ch.only(n.member) {
				continue
			}

			wg.Go(func() {
				f := s.askNode(ch, n)
				f.Node, f.Hostname = n.member.Node, n.member.Hostname

				if f.Status != "" {
					found(f)
				}
			})
		}
	}

	wg.Wait()
}

// askNode runs a check on a node. A node that does not report its version is not asked further.
func (s *survey) askNode(ch check, n *nodeFacts) (f Finding) {
	err := errs.Safely(func() error {
		if _, err := n.version(); err != nil && !ch.silent {
			f = s.once("talos-api", ch.id, silent(n, err))

			return nil
		}

		return n.ask(func(ctx context.Context) error { f = ch.node(ctx, s, n); return nil })
	})

	var panicked *errs.Panic
	if errors.As(err, &panicked) {
		f = unknown("the check failed with an internal error", err)
	}

	return f
}

// silent is the finding about a node that does not answer.
func silent(n *nodeFacts, err error) Finding {
	if denied(err) {
		return notAuthorized("read the version of the node")
	}

	if why := n.gone(); why != "" {
		return Finding{Status: Warn, Message: "no answer; " + why, LastError: err.Error(), Hint: "discovery forgets a node 30 minutes after it last announced itself"}
	}

	f := fail("no answer from the node", "check that the node is powered on and that the endpoint reaches it")
	f.LastError = err.Error()

	return f
}

// noMembers is the finding of a check without a list of nodes.
func noMembers(err error) Finding {
	if denied(err) {
		return notAuthorized("list the members of the cluster")
	}

	return unknown("the members cannot be read", err)
}

func ok(message string) Finding { return Finding{Status: OK, Message: message} }

func skip(message string) Finding { return Finding{Status: Skip, Message: message} }

func fail(message, hint string) Finding {
	return Finding{Status: Fail, Message: message, Hint: hint}
}

// notAuthorized is the finding of a check that the certificate does not allow.
func notAuthorized(what string) Finding {
	return Finding{Status: Skip, Message: "not authorized to " + what, denied: true}
}

// unread is the finding of a check whose question failed.
func unread(what string, err error) Finding {
	if denied(err) {
		return notAuthorized("read " + what)
	}

	return unknown(what+" cannot be read", err)
}

func unknown(message string, err error) Finding {
	f := Finding{Status: Unknown, Message: message}
	if err != nil {
		f.LastError = err.Error()
	}

	var typed *errs.Error
	if errors.As(err, &typed) {
		f.Hint = typed.Hint
	}

	return f
}
