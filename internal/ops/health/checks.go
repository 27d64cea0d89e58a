package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/dustin/go-humanize"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// checks is the list of all checks; IDs are an interface and never renamed.
func checks() []check {
	return []check{
		{id: "talos-discovery", title: "discovery has the members", level: LevelTalos, cluster: discovery},
		{id: "talos-api", title: "every member's API answers", level: LevelTalos, node: api},
		{id: "talos-stage", title: "every node is running with all conditions met", level: LevelTalos, node: stage},
		{id: "talos-services", title: "no service is unhealthy", level: LevelTalos, node: services},
		{id: "talos-diagnostics", title: "no node reports diagnostics", level: LevelTalos, node: diagnostics},
		{id: "talos-time", title: "every clock is in sync", level: LevelTalos, node: clock},
		{id: "talos-disk", title: "no node runs out of disk space", level: LevelTalos, node: disk},
		{id: "talos-versions", title: "all nodes run the same version", level: LevelTalos, cluster: once(versions)},
		{id: "talos-certificate", title: "the client certificate is valid for some time", level: LevelTalos, cluster: once(certificate)},
		{id: "etcd-members", title: "every control plane is a voting etcd member", level: LevelEtcd, cluster: once(etcdMembers)},
		{id: "etcd-health", title: "every etcd member is healthy", level: LevelEtcd, cluster: once(etcdHealth)},
		{id: "etcd-quorum", title: "etcd would survive the loss of a member", level: LevelEtcd, cluster: once(etcdQuorum)},
		{id: "etcd-consistency", title: "all nodes list the same etcd members", level: LevelEtcd, cluster: once(etcdConsistency)},
		{id: "etcd-alarms", title: "etcd has no alarm", level: LevelEtcd, cluster: once(etcdAlarms)},
		{id: "kubelet", title: "every kubelet is healthy", level: LevelKubernetes, node: kubelet},
		{id: "static-pods", title: "the control plane's static pods are ready", level: LevelKubernetes, node: staticPods, only: isControlPlane},
		{id: "kubernetes-api", title: "the Kubernetes API answers", level: LevelKubernetes, cluster: once(kubernetesAPI)},
		{id: "kubernetes-nodes", title: "every member is a Ready Kubernetes node", level: LevelKubernetes, cluster: kubernetesNodes, node: kubernetesNode, silent: true},
		{id: "kubernetes-schedulable", title: "no node is cordoned", level: LevelKubernetes, cluster: once(schedulable)},
		{id: "kubernetes-workloads", title: "kube-system's own workloads are ready", level: LevelKubernetes, cluster: once(workloads)},
	}
}

// once makes a check of findings that are all known at the same time.
func once(ask func(context.Context, *survey) []Finding) func(context.Context, *survey, func(Finding)) {
	return func(ctx context.Context, s *survey, found func(Finding)) {
		for _, f := range ask(ctx, s) {
			found(f)
		}
	}
}

func isControlPlane(m talos.Member) bool { return m.Type == target.ControlPlane }

// discovery compares what discovery lists with the machines that it knows, with etcd's members and with Kubernetes's nodes.
func discovery(_ context.Context, s *survey, found func(Finding)) {
	members, err := s.members()
	if err != nil {
		found(noMembers(err))

		return
	}

	listed := lists.Filter(members, func(m talos.Member) bool { return m.Source != target.FromEtcd })
	controlPlanes := lists.Filter(listed, isControlPlane)

	switch {
	case len(listed) == 0 && len(members) > 0:
		found(undiscovered(s))

		return
	case len(controlPlanes) == 0:
		found(fail("discovery has no control plane", "check that cluster discovery is enabled"))
	default:
		found(ok(fmt.Sprintf("%d members, %d of them control planes", len(listed), len(controlPlanes))))
	}

	for _, n := range s.all() {
		if n.unlisted && !s.isGone(n) {
			found(of(n.member, s.unlistedFinding(n)))
		}
	}

	for _, m := range probe.Undiscovered(members, nil) {
		found(of(m.Member, fail("discovery does not list "+m.String(), undiscoveredHint)))
	}

	nodes, known := s.knownKubeNodes()
	if !known || s.cluster.Only != nil {
		return
	}

	all := make([]talos.Member, 0, len(members))

	for _, n := range s.all() {
		m := n.member
		m.Source = target.FromDiscovery // what only etcd lists was reported above

		if _, err := n.version(); err == nil {
			m.KubernetesName, _ = n.name()
		}

		all = append(all, m)
	}

	for _, m := range probe.Undiscovered(all, nodes) {
		found(of(m.Member, fail("discovery does not list "+m.String(), undiscoveredHint)))
	}
}

// undiscovered is the finding of a cluster whose discovery lists nobody.
func undiscovered(s *survey) Finding {
	if s.cluster.Only != nil {
		return Finding{Status: Warn, Message: "discovery is disabled: only the named nodes were checked"}
	}

	if _, known := s.knownKubeNodes(); known {
		return Finding{Status: Warn, Message: "discovery is disabled: the nodes are those that etcd and Kubernetes list"}
	}

	return Finding{
		Status: Warn, Message: "discovery is disabled: the nodes are those that etcd lists; workers were not checked",
		Hint: "name workers with -n, or make Kubernetes reachable: it lists them too",
	}
}

const undiscoveredHint = "discovery is disabled or cut off on that node, or a node that is gone is still listed there"

// of puts a finding on a node.
func of(m talos.Member, f Finding) Finding {
	f.Node, f.Hostname = m.Node, m.Hostname

	return f
}

// unlistedFinding says why discovery does not list a machine that it knows.
func (s *survey) unlistedFinding(n *nodeFacts) Finding {
	twin := s.twin(n)
	if twin == nil {
		return fail("discovery knows this machine and does not list it", "talosmate get affiliates")
	}

	if s.isGone(twin) {
		return Finding{
			Status: Warn, Message: "discovery lists the machine that it replaced, at " + twin.member.Node,
			Hint: "discovery forgets a node 30 minutes after it last announced itself; until then name this one by its address",
		}
	}

	return fail("two machines have the hostname "+n.member.Hostname+", and discovery lists the one at "+twin.member.Node+" only",
		"give each machine a hostname of its own: talosmate machineconfig patch -n "+n.member.Node)
}

// api reports the nodes that answer; askNode reports the others.
func api(_ context.Context, _ *survey, n *nodeFacts) Finding {
	v, _ := n.version()

	return ok("Talos " + v.Tag)
}

func stage(ctx context.Context, _ *survey, n *nodeFacts) Finding {
	status, err := n.node.MachineStatus(ctx)

	switch {
	case err != nil:
		return unread("the machine status", err)
	case !status.Settled():
		return fail(status.String(), "")
	default:
		return ok(status.String())
	}
}

func services(_ context.Context, _ *survey, n *nodeFacts) Finding {
	list, err := n.services()
	if err != nil {
		return unread("the services", err)
	}

	var ill []string

	for _, svc := range list {
		// The kubelet has a check of its own, on its own level.
		if svc.ID != "kubelet" && (svc.Health == talos.Unhealthy || svc.State == "failed") {
			ill = append(ill, svc.ID+" ("+svc.State+")")
		}
	}

	if len(ill) > 0 {
		return fail("unhealthy: "+strings.Join(ill, ", "), "talosmate service info "+strings.Fields(ill[0])[0]+" -n "+n.member.Node)
	}

	return ok(fmt.Sprintf("%d services", len(list)))
}

func diagnostics(ctx context.Context, _ *survey, n *nodeFacts) Finding {
	list, err := n.node.Resources(ctx, "runtime", "Diagnostics.runtime.talos.dev")
	if err != nil {
		return unread("the diagnostics", err)
	}

	var told []string

	for _, r := range list {
		spec, err := talos.Decode[struct {
			Message string `json:"message"`
		}](r)
		if err != nil {
			return unread("the diagnostics", err)
		}

		told = append(told, r.Metadata.ID+": "+spec.Message)
	}

	if len(told) > 0 {
		return fail(strings.Join(told, "; "), "see https://talos.dev/diagnostic/"+list[0].Metadata.ID)
	}

	return ok("none")
}

func clock(ctx context.Context, _ *survey, n *nodeFacts) Finding {
	v, err := probe.GateClock(ctx, n.node, n.member.Target())
	if err != nil {
		return unread("the clock", err)
	}

	f := Finding{Message: v.Message, Hint: v.Remedy}

	switch v.Verdict {
	case gate.Pass:
		f.Status = OK
	case gate.Skip:
		f.Status = Skip
	case gate.Warn:
		f.Status = Warn
	default:
		f.Status = Fail
	}

	return f
}

func disk(ctx context.Context, _ *survey, n *nodeFacts) Finding {
	const (
		warnAt = 0.85
		failAt = 0.95
	)

	mounts, err := n.node.Mounts(ctx)
	if err != nil {
		return unread("the mounts", err)
	}

	at := slices.IndexFunc(mounts, func(m talos.Mount) bool { return m.MountedOn == "/var" && m.SizeBytes > 0 })
	if at < 0 {
		return Finding{Status: Skip, Message: "there is no mount for /var"}
	}

	m := mounts[at]
	f := ok(fmt.Sprintf("%s of %s free under /var", humanize.IBytes(m.AvailableBytes), humanize.IBytes(m.SizeBytes)))

	switch hint := errs.CommandLine("image", "prune", "-n", n.member.Node); {
	case m.UsedRatio >= failAt:
		f.Status, f.Hint = Fail, hint
	case m.UsedRatio >= warnAt:
		f.Status, f.Hint = Warn, hint
	}

	return f
}

func versions(_ context.Context, s *survey) []Finding {
	seen := map[string][]string{}
	silent := 0

	for _, n := range s.chosenOf(s.all()) {
		if v, err := n.version(); err == nil {
			seen[v.Tag] = append(seen[v.Tag], n.member.NodeName())
		} else {
			silent++
		}
	}

	switch _, err := s.members(); {
	case err != nil:
		return []Finding{s.once("talos-discovery", "talos-versions", noMembers(err))}
	case len(seen) == 0:
		return []Finding{s.once("talos-api", "talos-versions", unknown("no node reports its version", nil))}
	case len(seen) == 1:
		for tag := range seen {
			if silent > 0 {
				return []Finding{ok("all that answer run " + tag)}
			}

			return []Finding{ok("all run " + tag)}
		}
	}

	var parts []string
	for tag, hosts := range seen {
		parts = append(parts, tag+" on "+strings.Join(hosts, ", "))
	}

	slices.Sort(parts)

	newest := slices.MaxFunc(slices.Collect(maps.Keys(seen)), func(a, b string) int {
		older, _ := semver.ParseTolerant(a) // a text that is not a version is the oldest
		newer, _ := semver.ParseTolerant(b)

		return older.Compare(newer)
	})

	return []Finding{{Status: Warn, Message: strings.Join(parts, "; "), Hint: errs.CommandLine("upgrade", "plan", "--to", newest)}}
}

func certificate(_ context.Context, s *survey) []Finding {
	expires := s.cluster.Expires
	if expires.IsZero() {
		return []Finding{{Status: Skip, Message: "there is no client certificate"}}
	}

	left := expires.Sub(s.cluster.Now())
	f := ok("expires " + expires.UTC().Format(time.RFC3339))

	switch {
	case left <= 0: // it makes no other one either
		f = fail("expired at "+expires.UTC().Format(time.RFC3339),
			"make another one with an admin certificate that is still valid (config new), or generate the talosconfig from the cluster's secrets again")
	case left < 30*24*time.Hour:
		f.Status, f.Hint = Warn, "talosmate config new FILE"
	}

	return []Finding{f}
}
