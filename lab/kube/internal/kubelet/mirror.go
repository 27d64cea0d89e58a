package kubelet

import (
	"crypto/sha256"
	"encoding/hex"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations of static pods, as the kubelet writes them
// (k8s.io/kubernetes/pkg/kubelet/types).
const (
	annotationMirror = corev1.MirrorPodAnnotationKey
	annotationHash   = "kubernetes.io/config.hash"
	annotationSource = "kubernetes.io/config.source"
)

// mirrorPods are the pods by which a kubelet shows the static pods of a Talos control plane. They matter for a drain:
// they cannot be evicted and come back when deleted.
func mirrorPods(s Spec, nodeUID types.UID) []*corev1.Pod {
	if !s.ControlPlane {
		return nil
	}
	var pods []*corev1.Pod
	for _, component := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		image := "registry.k8s.io/" + component + ":" + s.KubeletVersion
		sum := sha256.Sum256([]byte(s.Name + "/" + image))
		hash := hex.EncodeToString(sum[:16])
		yes := true
		pods = append(pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name:      component + "-" + s.Name,
				Namespace: metav1.NamespaceSystem,
				Labels:    map[string]string{"k8s-app": component, "tier": "control-plane"},
				Annotations: map[string]string{
					annotationMirror: hash,
					annotationHash:   hash,
					annotationSource: "file",
				},
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: "v1", Kind: "Node", Name: s.Name, UID: nodeUID, Controller: &yes,
				}},
			},
			Spec: corev1.PodSpec{
				NodeName:          s.Name,
				HostNetwork:       true,
				PriorityClassName: "system-cluster-critical",
				Tolerations:       []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
				Containers:        []corev1.Container{{Name: component, Image: image}},
			},
		})
	}
	return pods
}
