package health

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func kubelet(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		list, err := n.node.Services(ctx)
		if err != nil {
			return unknown("the services cannot be listed", err)
		}

		at := slices.IndexFunc(list, func(svc talos.Service) bool { return svc.ID == "kubelet" })

		switch {
		case at < 0:
			return fail("there is no kubelet", "")
		case list[at].Health != talos.Healthy:
			return fail(fmt.Sprintf("the kubelet is %s and %s", list[at].State, list[at].Health), "talosmate logs kubelet -n "+n.member.Node)
		default:
			return ok(list[at].State)
		}
	}, nil)
}

func staticPods(_ context.Context, s *survey) []Finding {
	return s.perNode(func(ctx context.Context, n *nodeFacts) Finding {
		if name, err := n.name(); err == nil && name == "" {
			return Finding{Status: Skip, Message: "the node is not a Kubernetes member"}
		}

		wanted, err := n.node.Resources(ctx, "k8s", "StaticPods.kubernetes.talos.dev")
		if err != nil {
			return unknown("the static pods cannot be read", err)
		}

		statuses, err := n.node.Resources(ctx, "k8s", "StaticPodStatuses.kubernetes.talos.dev")
		if err != nil {
			return unknown("the static pods' state cannot be read", err)
		}

		missing := lists.Filter(wanted, func(w talos.Resource) bool {
			return !slices.ContainsFunc(statuses, func(r talos.Resource) bool { return staticPodReady(r, w.Metadata.ID) })
		})

		switch {
		case len(missing) > 0:
			names := lists.Join(missing, ", ", func(r talos.Resource) string { return r.Metadata.ID })

			return fail("not ready: "+names, "talosmate logs --kubernetes shows the cause")
		case len(wanted) == 0:
			return Finding{Status: Skip, Message: "the node has no static pods"}
		default:
			return ok(fmt.Sprintf("%d static pods", len(wanted)))
		}
	}, func(m talos.Member) bool { return m.Type == target.ControlPlane })
}

// staticPodReady matches a status (kube-system/kube-apiserver-cp-1) with a static pod (kube-apiserver).
func staticPodReady(r talos.Resource, id string) bool {
	_, name, _ := strings.Cut(r.Metadata.ID, "/")
	if !strings.HasPrefix(name, id) {
		return false
	}

	spec, err := talos.Decode[struct {
		PodStatus struct {
			Conditions []struct{ Type, Status string } `json:"conditions"`
		} `json:"podStatus"`
		Conditions []struct{ Type, Status string } `json:"conditions"`
	}](r)
	if err != nil {
		return false
	}

	for _, c := range append(spec.Conditions, spec.PodStatus.Conditions...) {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}

	return false
}

// withKubernetes calls the API and reports uniformly why it cannot be called.
func withKubernetes(ctx context.Context, s *survey, ask func(Kubernetes) []Finding) []Finding {
	if s.withoutKubernetes() {
		return []Finding{{Status: Skip, Message: "no node is a Kubernetes member"}}
	}

	k, denied, err := s.kube()

	switch {
	case denied:
		f := Finding{Status: Skip, Message: "needs an admin certificate or --kubeconfig"}
		if err != nil {
			f.LastError = err.Error()
		}

		return []Finding{f}
	case err != nil:
		return []Finding{unknown("the Kubernetes API cannot be asked", err)}
	case ctx.Err() != nil:
		return []Finding{unknown("interrupted", ctx.Err())}
	default:
		return ask(k)
	}
}

func kubernetesAPI(ctx context.Context, s *survey) []Finding {
	return withKubernetes(ctx, s, func(k Kubernetes) []Finding {
		nodes, err := k.Nodes(ctx)
		if err != nil {
			return []Finding{unknown("the Kubernetes API does not answer", err)}
		}

		return []Finding{ok(fmt.Sprintf("answers, has %d nodes", len(nodes)))}
	})
}

func kubernetesNodes(ctx context.Context, s *survey) []Finding {
	return withKubernetes(ctx, s, func(k Kubernetes) []Finding {
		nodes, err := k.Nodes(ctx)
		if err != nil {
			return []Finding{unknown("the Kubernetes API does not answer", err)}
		}

		return s.perNode(func(_ context.Context, n *nodeFacts) Finding {
			name, err := n.name()
			if err != nil {
				return unknown("the Kubernetes node name cannot be read", err)
			}

			if name == "" {
				return Finding{Status: Skip, Message: "the node is not a Kubernetes member"}
			}

			at := slices.IndexFunc(nodes, func(k kube.Node) bool { return k.Name == name })

			switch {
			case at < 0:
				return fail("Kubernetes has no node "+name, "")
			case !nodes[at].Ready:
				return fail("not Ready: "+nodes[at].ReadyMessage, "kubectl describe node "+name)
			default:
				return ok("Ready, kubelet " + nodes[at].KubeletVersion)
			}
		}, nil)
	})
}

func schedulable(ctx context.Context, s *survey) []Finding {
	return withKubernetes(ctx, s, func(k Kubernetes) []Finding {
		nodes, err := k.Nodes(ctx)
		if err != nil {
			return []Finding{unknown("the Kubernetes API does not answer", err)}
		}

		cordoned := lists.Filter(nodes, func(n kube.Node) bool { return n.Unschedulable })
		if len(cordoned) > 0 {
			names := lists.Join(cordoned, ", ", func(n kube.Node) string { return n.Name })

			return []Finding{fail("cordoned: "+names, "talosmate node uncordon -n "+cordoned[0].Name)}
		}

		return []Finding{ok(fmt.Sprintf("%d nodes are schedulable", len(nodes)))}
	})
}

// workloads checks what every Kubernetes needs in addition to its control plane. A cluster without kube-proxy or with
// another DNS simply has no such workload.
func workloads(ctx context.Context, s *survey) []Finding {
	return withKubernetes(ctx, s, func(k Kubernetes) []Finding {
		list, err := k.Workloads(ctx)
		if err != nil {
			return []Finding{unknown("the workloads cannot be read", err)}
		}

		missing := lists.Filter(list, func(w kube.Workload) bool { return w.Ready < w.Desired })
		if len(missing) > 0 {
			text := lists.Join(missing, "; ", func(w kube.Workload) string {
				return fmt.Sprintf("%s %s has %d of %d ready", w.Kind, w.Name, w.Ready, w.Desired)
			})

			return []Finding{fail(text, "kubectl -n kube-system get pods")}
		}

		return []Finding{ok(fmt.Sprintf("%d workloads", len(list)))}
	})
}
