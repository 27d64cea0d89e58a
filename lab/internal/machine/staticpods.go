package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	cosiproto "github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"go.yaml.in/yaml/v4"
)

// staticPodOwner is the controller that makes the static pods of machine.pods. Those of the control plane are from the
// recording.
const staticPodOwner = "k8s.StaticPodConfigController"

// putStaticPods makes the static pods of machine.pods, with IDs as Talos gives them. It needs n.mu held.
func (n *Node) putStaticPods() {
	var ids []string

	for _, static := range n.config.K8sStaticPodConfigs() {
		pod := static.Pod()
		namespace, name := podName(pod)
		res := k8s.NewStaticPod(k8s.NamespaceName, namespace+"-"+name)
		res.TypedSpec().Pod = pod
		ids = append(ids, res.Metadata().ID())
		n.put(res, staticPodOwner)
	}

	list, err := n.state.List(context.Background(), k8s.NewStaticPod(k8s.NamespaceName, "").Metadata())
	if err != nil {
		n.cluster.Note(n.Name, "error", err.Error())
	}

	for _, res := range list {
		if res.Metadata().Owner() == staticPodOwner && !slices.Contains(ids, res.Metadata().ID()) {
			n.remove(res.Metadata())
		}
	}

	n.putStaticPodStatuses()
}

// putStaticPodStatuses shows what the kubelet reports about its static pods, also of a node that does not register with
// Kubernetes. On workers Talos cannot ask the kubelet; without a kubelet there are no statuses. A pod that is not
// restarted has done its work. It needs n.mu held.
func (n *Node) putStaticPodStatuses() {
	statuses := map[string]bool{}

	if s := n.services["kubelet"]; n.nodeType == ControlPlane && s != nil && s.State == ServiceRunning {
		list, err := n.state.List(context.Background(), k8s.NewStaticPod(k8s.NamespaceName, "").Metadata())
		if err != nil {
			n.cluster.Note(n.Name, "error", err.Error())
		}

		for _, res := range list {
			pod, err := podOf(res)
			if err != nil {
				n.cluster.Note(n.Name, "error", err.Error())

				continue
			}

			namespace, name := podName(pod)
			status := k8s.NewStaticPodStatus(k8s.NamespaceName, fmt.Sprintf("%s/%s-%s", namespace, name, nodenameOf(n.hostname)))
			status.TypedSpec().PodStatus = n.podStatus(pod)
			statuses[status.Metadata().ID()] = true
			n.put(status, "k8s.KubeletStaticPodController")
		}
	}

	n.removeOthers(k8s.NewStaticPodStatus(k8s.NamespaceName, ""), func(id string) bool { return statuses[id] })
}

// podOf reads a pod, made here or recorded.
func podOf(res resource.Resource) (pod map[string]any, err error) {
	if typed, ok := res.(*k8s.StaticPod); ok {
		return typed.TypedSpec().Pod, nil
	}

	recorded, err := cosiproto.FromResource(res)
	if err != nil {
		return nil, err
	}

	wire, err := recorded.Marshal()
	if err != nil {
		return nil, err
	}

	return pod, yaml.Unmarshal([]byte(wire.GetSpec().GetYamlSpec()), &pod)
}

func (n *Node) podStatus(pod map[string]any) map[string]any {
	phase, ready := "Running", !n.kubernetes || n.kubeStatus != nil && n.kubeStatus.Ready

	spec, _ := pod["spec"].(map[string]any) //nolint:errcheck // a pod without a spec is restarted
	if spec["restartPolicy"] == "Never" || spec["restartPolicy"] == "OnFailure" {
		phase, ready = "Succeeded", false
	}

	status := map[string]any{}

	_, name := podName(pod)
	if r, ok := n.rendered[name]; ok {
		status["startTime"] = r.started.UTC().Format(time.RFC3339Nano)
	}

	if name == apiServer && (n.apiServerDown || n.apiServerExits) {
		ready = false
	}

	maps.Copy(status, map[string]any{"phase": phase, "conditions": []any{map[string]any{"type": "Ready", "status": conditionStatus(ready)}}})

	return status
}

func podName(pod map[string]any) (namespace, name string) {
	metadata, _ := pod["metadata"].(map[string]any) //nolint:errcheck // Talos refuses a pod without a name
	namespace, _ = metadata["namespace"].(string)   //nolint:errcheck // the default follows
	name, _ = metadata["name"].(string)             //nolint:errcheck // Talos refuses a pod without a name

	if namespace == "" {
		namespace = "default"
	}

	return namespace, name
}
