package health

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
)

func kubelet(_ context.Context, _ *survey, n *nodeFacts) Finding {
	list, err := n.services()
	if err != nil {
		return unread("the services", err)
	}

	at := slices.IndexFunc(list, func(svc talos.Service) bool { return svc.ID == "kubelet" })
	if at < 0 {
		if name, err := n.name(); err == nil && name == "" {
			return skip("the node runs no kubelet and is not a Kubernetes member")
		}

		return fail("there is no kubelet", "")
	}

	if list[at].Health != talos.Healthy {
		return fail(fmt.Sprintf("the kubelet is %s and %s", list[at].State, list[at].Health), "talosmate logs kubelet -n "+n.member.Node)
	}

	return ok(list[at].State)
}

// staticPods checks the pods of the control plane and those of machine.pods. On workers Talos does not see them.
func staticPods(ctx context.Context, _ *survey, n *nodeFacts) Finding {
	wanted, err := n.node.Resources(ctx, "k8s", "StaticPods.kubernetes.talos.dev")
	if err != nil {
		return unread("the static pods", err)
	}

	statuses, err := n.node.Resources(ctx, "k8s", "StaticPodStatuses.kubernetes.talos.dev")
	if err != nil {
		return unread("the state of the static pods", err)
	}

	nodename, err := n.nodename(ctx)
	if err != nil {
		return unread("the Kubernetes node name", err)
	}

	var missing []string

	for _, w := range wanted {
		id, err := staticPodStatusID(w, nodename)
		if err != nil {
			return unread("the static pods", err)
		}

		if !slices.ContainsFunc(statuses, func(r talos.Resource) bool { return r.Metadata.ID == id && staticPodFine(r) }) {
			missing = append(missing, w.Metadata.ID)
		}
	}

	switch {
	case len(missing) > 0:
		return fail("not ready: "+strings.Join(missing, ", "), errs.CommandLine("container", "list", "-k", "-n", n.member.Node))
	case len(wanted) == 0:
		return skip("the node has no static pods")
	default:
		return ok(fmt.Sprintf("%d static pods", len(wanted)))
	}
}

// nodename reads the node name that the kubelet uses, whether it registers with Kubernetes or not.
func (n *nodeFacts) nodename(ctx context.Context) (string, error) {
	list, err := n.node.Resources(ctx, "k8s", "Nodenames.kubernetes.talos.dev")
	if err != nil || len(list) == 0 {
		return strings.ToLower(n.member.Hostname), err
	}

	spec, err := talos.Decode[struct {
		Nodename string `json:"nodename"`
	}](list[0])

	return spec.Nodename, err
}

// staticPodStatusID is the ID of the status of a static pod: NAMESPACE/NAME-NODE.
func staticPodStatusID(pod talos.Resource, nodename string) (string, error) {
	spec, err := talos.Decode[struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}](pod)

	namespace := spec.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}

	return namespace + "/" + spec.Metadata.Name + "-" + nodename, err
}

// staticPodFine reports whether a pod is ready, or has done its work.
func staticPodFine(r talos.Resource) bool {
	type podStatus struct {
		Phase      string                          `json:"phase"`
		Conditions []struct{ Type, Status string } `json:"conditions"`
	}

	spec, err := talos.Decode[struct {
		podStatus

		PodStatus podStatus `json:"podStatus"`
	}](r)
	if err != nil {
		return false
	}

	if spec.Phase == "Succeeded" || spec.PodStatus.Phase == "Succeeded" {
		return true
	}

	for _, c := range append(spec.Conditions, spec.PodStatus.Conditions...) {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}

	return false
}

// withKubernetes passes on the nodes of Kubernetes, or explains once why they are not known.
func withKubernetes(s *survey, id string, ask func([]kube.Node) []Finding) []Finding {
	const reporter = "kubernetes-api"

	if s.withoutKubernetes() {
		return []Finding{skip("no node that answers is a Kubernetes member")}
	}

	_, refused, err := s.kube()

	switch {
	case refused:
		f := notAuthorized("fetch a kubeconfig: needs an admin certificate, or --kubeconfig")
		if err != nil {
			f.LastError = err.Error()
		}

		return []Finding{f}
	case err != nil:
		return []Finding{s.once(reporter, id, unknown("the Kubernetes API cannot be asked", err))}
	}

	nodes, err := s.kubeNodes()
	if err != nil {
		return []Finding{s.once(reporter, id, unknown("the Kubernetes API does not answer", err))}
	}

	return ask(nodes)
}

func kubernetesAPI(_ context.Context, s *survey) []Finding {
	return withKubernetes(s, "kubernetes-api", func(nodes []kube.Node) []Finding {
		return []Finding{ok(fmt.Sprintf("answers, has %d nodes", len(nodes)))}
	})
}

// kubernetesNodes reports why the nodes are not known; kubernetesNode reports each of them.
func kubernetesNodes(_ context.Context, s *survey, found func(Finding)) {
	for _, f := range withKubernetes(s, "kubernetes-nodes", func([]kube.Node) []Finding { return nil }) {
		found(f)
	}
}

// kubernetesNode checks what Kubernetes knows about a node, also if the node itself does not answer.
func kubernetesNode(_ context.Context, s *survey, n *nodeFacts) Finding {
	if s.withoutKubernetes() {
		return Finding{}
	}

	nodes, err := s.kubeNodes()
	if err != nil {
		return Finding{} // reported by kubernetesNodes
	}

	addresses, name := n.member.Target(), n.member.NodeName()
	addresses.Hostname = ""
	node, found := probe.FindNode(nodes, addresses, "")

	if !found {
		own, err := n.name()

		switch {
		case err == nil && own == "":
			return skip("the node is not a Kubernetes member")
		case err == nil:
			name = own
			node, found = probe.FindNode(nodes, addresses, own)
		case s.isGone(n):
			return skip("no answer from the node")
		default:
			node, found = probe.FindNode(nodes, n.member.Target(), "")
		}
	}

	switch {
	case !found:
		return fail("Kubernetes has no node "+name, "")
	case !node.Ready:
		return fail("not Ready: "+node.ReadyMessage, "kubectl describe node "+node.Name)
	default:
		return ok("Ready, kubelet " + node.KubeletVersion)
	}
}

func schedulable(_ context.Context, s *survey) []Finding {
	return withKubernetes(s, "kubernetes-schedulable", func(nodes []kube.Node) []Finding {
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
	return withKubernetes(s, "kubernetes-workloads", func([]kube.Node) []Finding {
		k, _, _ := s.kube()

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
