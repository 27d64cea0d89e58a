package snapshot

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/types/block"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// RestorePlan is how a cluster is recovered from a snapshot. Nothing of it is done.
type RestorePlan struct {
	Snapshot Report        `json:"snapshot"` // What verify-snapshot says of the file; live is what the cluster loses.
	Etcd     string        `json:"etcd"`     // The cluster's etcd now: quorum, no-quorum or unknown.
	Nodes    []RestoreNode `json:"nodes"`    // The control planes; never null.
	Steps    []RestoreStep `json:"steps"`    // What to do, in order; empty if the snapshot would not restore, never null.
	Warnings []string      `json:"warnings"` // Reasons to think twice; never null.
	Unknown  []string      `json:"unknown"`  // What could not be known; never null.
}

// RestoreNode is a control plane, as far as it is known.
type RestoreNode struct {
	talos.NodeRef

	Source   string `json:"source"`          // Who names it: flags, members (the cluster), snapshot or endpoints (the talosconfig).
	Answers  bool   `json:"answers"`         // Whether its Talos API answered.
	Wipe     string `json:"wipe"`            // The partition that holds etcd's data: EPHEMERAL, or ETCD where it has one of its own.
	WipeFrom string `json:"wipe_from"`       // How that is known: node, config (of --config), or assumed.
	Error    string `json:"error,omitempty"` // Why it did not answer.
}

// RestoreStep is one thing to do.
type RestoreStep struct {
	Title       string `json:"title"`             // What it does.
	Command     string `json:"command,omitempty"` // The command line, for a POSIX shell; absent for what is done by hand.
	Destructive bool   `json:"destructive"`       // Whether data is lost.
	Note        string `json:"note,omitempty"`    // What to know of it.
}

// States of etcd.
const (
	QuorumHeld    = "quorum"
	QuorumLost    = "no-quorum"
	QuorumUnknown = "unknown"
)

// How the partition of etcd's data is known.
const (
	wipeNode    = "node"
	wipeConfig  = "config"
	wipeAssumed = "assumed"
)

// FromSnapshot is the source of a node that only the snapshot names.
const FromSnapshot = "snapshot"

// Survey is what is known of a cluster that may be down.
type Survey struct {
	Nodes   []RestoreNode
	View    etcd.View
	Unknown []string
	Keys    *Keys // From the first node that gives them; nil for none.
	KeysOf  string

	cluster *talos.Cluster
	readers []etcd.Source // The nodes that answer, each over the way it answered.
}

// NewSurvey asks nobody yet. cluster is nil where there is no talosconfig.
func NewSurvey(cluster *talos.Cluster) *Survey { return &Survey{cluster: cluster} }

// Ask adds control planes and asks those that are new. A node that answers neither through the endpoints nor directly is kept.
// An address that a node or a file names must be one.
func (s *Survey) Ask(ctx context.Context, source string, targets []talos.Target) {
	targets = slices.DeleteFunc(target.EachOnce(targets), func(t talos.Target) bool {
		named := source == target.SourceFlags || source == target.SourceEndpoints
		if a, err := netip.ParseAddr(t.Address); !named && (err != nil || a.Zone() != "") {
			return true
		}

		return slices.ContainsFunc(s.Nodes, func(n RestoreNode) bool { return t.Has(n.Node) || (n.Hostname != "" && n.Hostname == t.Hostname) })
	})
	nodes := make([]RestoreNode, len(targets))
	over := make([]*talos.Node, len(targets))

	var wg errs.Group

	for i, t := range targets {
		wg.Go(func() { nodes[i], over[i] = s.ask(ctx, source, t) })
	}

	wg.Wait()

	s.Nodes = append(s.Nodes, nodes...)

	for i, n := range over {
		if n == nil {
			continue
		}

		s.readers = append(s.readers, etcd.Source{Target: targets[i], Reader: n})

		if s.Keys == nil {
			if keys, err := asked(ctx, s, func(ctx context.Context) (*Keys, error) { return KeysFrom(ctx, n) }); err == nil {
				s.Keys, s.KeysOf = keys, targets[i].Name()
			}
		}
	}
}

func (s *Survey) ask(ctx context.Context, source string, t talos.Target) (out RestoreNode, over *talos.Node) {
	out = RestoreNode{Source: source, Wipe: talos.Ephemeral, WipeFrom: wipeAssumed}
	out.SetNode(t)

	if s.cluster == nil {
		return out, nil
	}

	err := s.cluster.Permit(t)
	if err != nil {
		out.Error = err.Error()

		return out, nil
	}

	for _, n := range []*talos.Node{s.cluster.Node(t), s.cluster.DirectNode(t)} {
		var own []string

		if own, err = asked(ctx, s, n.Separate); err == nil {
			out.Answers, out.WipeFrom, out.Error = true, wipeNode, ""

			if slices.Contains(own, talos.Etcd) {
				out.Wipe = talos.Etcd
			}

			return out, n
		}

		out.Error = err.Error()
	}

	return out, nil
}

// Members lists the cluster's nodes, none without a cluster.
func (s *Survey) Members(ctx context.Context) ([]talos.Member, error) {
	if s.cluster == nil {
		return nil, nil
	}

	return s.cluster.Members(ctx)
}

// Answers reports whether a node answered.
func (s *Survey) Answers() bool { return len(s.readers) > 0 }

// asked asks for at most the time that an answer may take.
func asked[T any](ctx context.Context, s *Survey, ask func(context.Context) (T, error)) (T, error) {
	if limit := s.cluster.Options.Timeout; limit > 0 {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()

		ctx = limited
	}

	return ask(ctx)
}

// Look asks the members of the nodes that answer.
func (s *Survey) Look(ctx context.Context) {
	if len(s.readers) > 0 {
		s.View = etcd.Gather(ctx, s.readers, s.cluster.Options.Timeout)
	}
}

// UseConfig notes what a control plane's machine configuration says of the nodes that do not answer.
func (s *Survey) UseConfig(text []byte) error {
	cfg, err := configloader.NewFromBytes(text)
	if err != nil {
		return errs.Usagef("cannot read the machine configuration: %w", err)
	}

	volume, found := cfg.Volumes().ByName(talos.Etcd)

	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.WipeFrom != wipeAssumed {
			continue
		}

		n.WipeFrom = wipeConfig

		if found && block.ProvisioningRequested(volume.Provisioning()) {
			n.Wipe = talos.Etcd
		}
	}

	return nil
}

// Targets are the members of the etcd that the snapshot was taken from.
func (r *Report) Targets() []talos.Target {
	var out []talos.Target

	for _, m := range r.Members {
		out = append(out, talos.Target{Address: m.Address, Hostname: m.Name, Type: target.ControlPlane})
	}

	return out
}

// quorum is the state of the cluster's etcd. A node that does not answer may have a member that does.
func quorum(v etcd.View, nodes []RestoreNode) string {
	voters, healthy := 0, 0

	for _, m := range v.Members {
		if m.Learner {
			continue
		}

		voters++

		if m.Healthy {
			healthy++
		}
	}

	all := max(voters, len(nodes))
	silent := all - len(lists.Filter(nodes, func(n RestoreNode) bool { return n.Answers }))

	switch {
	case v.Known && voters > 0 && healthy >= etcd.Quorum(voters):
		return QuorumHeld
	case all > 0 && healthy+silent < etcd.Quorum(all):
		return QuorumLost
	default:
		return QuorumUnknown
	}
}

// Plan is the recovery from a snapshot that was verified. flags name the cluster in each command line, as the user
// named it.
func (s *Survey) Plan(r Report, flags ...string) RestorePlan {
	p := RestorePlan{
		Snapshot: r, Etcd: quorum(s.View, s.Nodes), Nodes: append([]RestoreNode{}, s.Nodes...), Steps: []RestoreStep{}, Warnings: []string{},
		Unknown: append([]string{}, s.Unknown...),
	}

	lists.Sort(p.Nodes, func(a, b RestoreNode) int { return target.CompareAddresses(a.Node, b.Node) })
	p.note()

	if r.Restorable && len(p.Nodes) > 0 {
		p.steps(flags)
	}

	return p
}

// note says what speaks against a recovery, and what is not known.
func (p *RestorePlan) note() {
	if p.Etcd == QuorumHeld {
		p.Warnings = append(p.Warnings, "etcd has its quorum: a recovery loses what was written since the snapshot. A lost control plane is replaced with `talosmate node replace`, which loses nothing")
	}

	if p.Etcd == QuorumHeld && len(p.Nodes) == 1 {
		p.Warnings = append(p.Warnings, "etcd has one member, and it is healthy: `talosmate node reset` does not empty the last voting member (TM123)")
	}

	if l := p.Snapshot.Live; l != nil && l.SameCluster == sameNo {
		p.Warnings = append(p.Warnings, "no member of the snapshot is a member now: it is from another cluster, or the cluster was recovered since")
	}

	if p.Snapshot.HashState == HashNone {
		p.Warnings = append(p.Warnings, "the file has no trailing hash: it is a copy of a database, and that nothing is missing at its end cannot be verified")
	}

	if n := p.Snapshot.Unchecked(); n > 0 {
		p.Unknown = append(p.Unknown, "whether the cluster's keys decrypt what is encrypted in the snapshot: give --config with a control plane's machine configuration")
	}

	switch l := p.Snapshot.Live; {
	case p.Etcd != QuorumHeld && (l == nil || l.Index == 0):
		p.Unknown = append(p.Unknown, "what was written since the snapshot: no member of etcd answers")
	case l != nil && l.Revision == 0:
		p.Unknown = append(p.Unknown, "how many revisions the snapshot lacks: Kubernetes does not answer")
	}

	for _, n := range p.Nodes {
		if n.WipeFrom == wipeAssumed {
			p.Unknown = append(p.Unknown, "whether etcd's data on "+n.NodeName()+" has a partition of its own (ETCD): EPHEMERAL is assumed")
		}
	}

	if len(p.Nodes) == 0 {
		p.Unknown = append(p.Unknown, "which nodes are control planes: name them with -n")
	}
}

// steps are the command lines. Nodes are named by their addresses, since names need a cluster that answers.
func (p *RestorePlan) steps(flags []string) {
	line := func(words ...string) string {
		return shellquote.Join(slices.Concat([]string{"talosmate"}, words, flags)...)
	}
	add := func(title, note string, words ...string) {
		loses := slices.Contains(words, "reset") || slices.Contains(words, "--recover-from")
		p.Steps = append(p.Steps, RestoreStep{Title: title, Note: note, Command: line(words...), Destructive: loses && !slices.Contains(words, "--dry-run")})
	}

	up := lists.Filter(p.Nodes, func(n RestoreNode) bool { return n.Answers })
	down := lists.Filter(p.Nodes, func(n RestoreNode) bool { return !n.Answers })

	if len(up) == 0 { // none answers now; the plan is for when they do
		p.Steps = append(p.Steps, RestoreStep{Title: "Switch the control planes on, and wait until their Talos API answers", Note: "Run restore-plan again then: it sees more"})
		up, down = p.Nodes, nil
	}

	if len(down) > 0 {
		p.Steps = append(p.Steps, RestoreStep{
			Title: "Keep " + lists.Join(down, ", ", RestoreNode.NodeName) + " off",
			Note:  "A member with the old data must not come back during the recovery",
		})
	}

	first := up[0].Node

	if p.Etcd == QuorumHeld {
		add("Save the present state", "", "etcd", "snapshot", "before-recovery.db")
	} else {
		for i, n := range up {
			add("Save the database of "+n.NodeName(), "It may be newer than the snapshot; if the node has none, continue",
				"fs", "cp", "/var/lib/etcd/member/snap/db", fmt.Sprintf("last-state-%d.db", i+1), "-n", n.Node)
		}
	}

	path := p.Snapshot.Path
	if strings.HasPrefix(path, "-") || strings.HasPrefix(path, "#") {
		path = "./" + path
	}

	if p.Snapshot.Unchecked() > 0 {
		add("Prove that the keys decrypt the snapshot", "The file is the saved configuration of a control plane", "etcd", "verify-snapshot", path, "--config", "controlplane.yaml")
	}

	p.wipe(up, add)

	recovered := []string{"bootstrap", "-n", first, "--recover-from", path}
	if p.Snapshot.HashState == HashNone {
		recovered = append(recovered, "--recover-skip-hash-check")
	}

	add("Start etcd on one node with the snapshot", "The file is verified before a byte is sent; the other nodes join automatically", recovered...)

	if len(down) > 0 { // etcd is not healthy before they are members again
		add("Wait for the nodes that answer", "", "wait", "--for", "ready", "-n", lists.Join(up, ",", address))
		p.wipe(down, func(title, note string, words ...string) { add(title+", when they answer again", note, words...) })
	}

	add("Wait for etcd", "", "wait", "--for", "etcd=healthy", "-n", lists.Join(p.Nodes, ",", address))
	add("Wait for all nodes", "", "wait", "--for", "ready", "-A")
	add("Verify the members", "", "etcd", "members")
	add("Verify etcd", "", "health", "--scope", "etcd", "--wait")
	add("Take a new snapshot", "Restart the kubelet of a worker that stays NotReady: talosmate service restart kubelet -n NODE", "etcd", "snapshot", "after-recovery.db")
}

func address(n RestoreNode) string { return n.Node }

// wipe empties etcd on nodes, grouped by the partition that holds its data: first a dry run, then the change.
func (p *RestorePlan) wipe(nodes []RestoreNode, add func(title, note string, words ...string)) {
	for _, label := range []string{talos.Ephemeral, talos.Etcd} {
		group := lists.Filter(nodes, func(n RestoreNode) bool { return n.Wipe == label })
		if len(group) == 0 {
			continue
		}

		words := []string{
			"node", "reset", "-n", lists.Join(group, ",", address), "--graceful=false", "--system-labels", label, "--reboot",
			"--override", "TM120,TM121,TM124",
		}
		title := "Empty etcd on " + lists.Join(group, ", ", RestoreNode.NodeName) + " (" + label + ")"
		note := "The machine configuration stays. It asks for the name; without a terminal it needs --yes"

		if label == talos.Ephemeral {
			note = "Wipes everything under /var that has no partition of its own: images, logs, etcd. " + note
		}

		add("Preview: "+strings.ToLower(title[:1])+title[1:], "", append(slices.Clone(words), "--dry-run")...)
		add(title, note, append(words, "--audit-log", "recovery.log")...)
	}
}
