package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/talosmate/talosmate/internal/talos"
)

// checks is the list of all checks; IDs are an interface and never renamed.
func checks() []check {
	return []check{
		{"talos-discovery", "discovery has the members", LevelTalos, discovery},
		{"talos-api", "every member's API answers", LevelTalos, api},
		{"talos-stage", "every node is running with all conditions met", LevelTalos, stage},
		{"talos-services", "no service is unhealthy", LevelTalos, services},
		{"talos-diagnostics", "no node reports diagnostics", LevelTalos, diagnostics},
		{"talos-time", "every clock is in sync", LevelTalos, clock},
		{"talos-disk", "no node runs out of disk space", LevelTalos, disk},
		{"talos-versions", "all nodes run the same version", LevelTalos, versions},
		{"talos-certificate", "the client certificate is valid for some time", LevelTalos, certificate},
		{"etcd-members", "every control plane is a voting etcd member", LevelEtcd, etcdMembers},
		{"etcd-health", "every etcd member is healthy", LevelEtcd, etcdHealth},
		{"etcd-quorum", "etcd would survive the loss of a member", LevelEtcd, etcdQuorum},
		{"etcd-consistency", "all nodes list the same etcd members", LevelEtcd, etcdConsistency},
		{"etcd-alarms", "etcd has no alarm", LevelEtcd, etcdAlarms},
		{"kubelet", "every kubelet is healthy", LevelKubernetes, kubelet},
		{"static-pods", "the control plane's static pods are ready", LevelKubernetes, staticPods},
		{"kubernetes-api", "the Kubernetes API answers", LevelKubernetes, kubernetesAPI},
		{"kubernetes-nodes", "every member is a Ready Kubernetes node", LevelKubernetes, kubernetesNodes},
		{"kubernetes-schedulable", "no node is cordoned", LevelKubernetes, schedulable},
		{"kubernetes-workloads", "kube-system's own workloads are ready", LevelKubernetes, workloads},
	}
}

func discovery(_ context.Context, s *survey) []Finding {
	members, err := s.members()
	if err != nil {
		return []Finding{unknown("the members cannot be read", err)}
	}

	controlPlanes := len(s.controlPlanes())
	if controlPlanes == 0 {
		return []Finding{fail("discovery has no control plane", "check that cluster discovery is enabled")}
	}

	return []Finding{ok(fmt.Sprintf("%d members, %d of them control planes", len(members), controlPlanes))}
}

func api(_ context.Context, s *survey) []Finding {
	nodes := s.nodes()
	out := make([]Finding, 0, len(nodes))

	// Other checks need the versions too; the first one reads them.
	answers := s.perNode(func(_ context.Context, n *nodeFacts) Finding {
		v, _ := n.version() // perNode has verified that it answers

		return ok("Talos " + v.Tag)
	}, nil)

	for _, f := range answers {
		if f.Status == Unknown && f.Node != "" {
			f.Status, f.Hint = Fail, "check that the node is powered on and that the endpoint reaches it"
		}

		out = append(out, f)
	}

	return out
}

func stage(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		status, err := n.node.MachineStatus(ctx)

		switch {
		case err != nil:
			return unknown("the machine status cannot be read", err)
		case !status.Settled():
			return fail(status.String(), "")
		default:
			return ok(status.String())
		}
	}, nil)
}

func services(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		list, err := n.node.Services(ctx)
		if err != nil {
			return unknown("the services cannot be listed", err)
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
	}, nil)
}

func diagnostics(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		list, err := n.node.Resources(ctx, "runtime", "Diagnostics.runtime.talos.dev")
		if err != nil {
			return unknown("the diagnostics cannot be read", err)
		}

		var told []string

		for _, r := range list {
			spec, err := talos.Decode[struct {
				Message string `json:"message"`
			}](r)
			if err != nil {
				return unknown("the diagnostics cannot be read", err)
			}

			told = append(told, r.Metadata.ID+": "+spec.Message)
		}

		if len(told) > 0 {
			return fail(strings.Join(told, "; "), "see https://talos.dev/diagnostic/"+list[0].Metadata.ID)
		}

		return ok("none")
	}, nil)
}

func clock(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		status, known, err := n.node.TimeStatus(ctx)

		switch {
		case err != nil:
			return unknown("the time status cannot be read", err)
		case status.SyncDisabled:
			return Finding{Status: Skip, Message: "time synchronisation is switched off"}
		case known && !status.Synced:
			return fail("the clock is not in sync", "talosmate system time -n "+n.member.Node)
		default:
			return ok("in sync")
		}
	}, nil)
}

func disk(_ context.Context, s *survey) []Finding {
	const (
		warnAt = 0.85
		failAt = 0.95
	)

	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		mounts, err := n.node.Mounts(ctx)
		if err != nil {
			return unknown("the mounts cannot be listed", err)
		}

		at := slices.IndexFunc(mounts, func(m talos.Mount) bool { return m.MountedOn == "/var" && m.SizeBytes > 0 })
		if at < 0 {
			return Finding{Status: Skip, Message: "there is no mount for /var"}
		}

		m := mounts[at]
		f := ok(fmt.Sprintf("%s of %s free under /var", humanize.IBytes(m.AvailableBytes), humanize.IBytes(m.SizeBytes)))

		switch hint := "talosmate image prune -n " + n.member.Node; {
		case m.UsedRatio >= failAt:
			f.Status, f.Hint = Fail, hint
		case m.UsedRatio >= warnAt:
			f.Status, f.Hint = Warn, hint
		}

		return f
	}, nil)
}

func versions(_ context.Context, s *survey) []Finding {
	seen := map[string][]string{}

	for _, n := range s.nodes() {
		if v, err := n.version(); err == nil {
			seen[v.Tag] = append(seen[v.Tag], n.member.Hostname)
		}
	}

	switch len(seen) {
	case 0:
		return []Finding{unknown("no node reports its version", nil)}
	case 1:
		for tag := range seen {
			return []Finding{ok("all run " + tag)}
		}
	}

	var parts []string
	for tag, hosts := range seen {
		parts = append(parts, tag+" on "+strings.Join(hosts, ", "))
	}

	slices.Sort(parts)

	return []Finding{{Status: Warn, Message: strings.Join(parts, "; "), Hint: "talosmate upgrade plan shows the nodes that are left to upgrade"}}
}

func certificate(_ context.Context, s *survey) []Finding {
	expires := s.cluster.Expires
	if expires.IsZero() {
		return []Finding{{Status: Skip, Message: "there is no client certificate"}}
	}

	left := expires.Sub(s.cluster.Now())
	f := ok("expires " + expires.UTC().Format(time.RFC3339))

	if left < 30*24*time.Hour {
		f.Status, f.Hint = Warn, "make another one with `talosmate config new` while this one is valid"
	}

	return []Finding{f}
}
