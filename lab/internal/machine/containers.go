package machine

import (
	"fmt"
	"slices"

	"github.com/talosmate/talosmate/lab/internal/images"
)

// Container is one container of a node.
type Container struct {
	Namespace  string `json:"namespace"` // k8s.io or system
	ID         string `json:"id"`        // what the API displays, e.g. kube-system/coredns-x:coredns:0123456789ab
	InternalID string `json:"internal_id"`
	UID        string `json:"uid,omitempty"`
	PodID      string `json:"pod_id"`
	Name       string `json:"name"`
	Image      string `json:"image"`
	PID        uint32 `json:"pid"`
	Status     string `json:"status"`
}

// The containerd namespaces.
const (
	NamespaceSystem = "system"
	NamespaceK8s    = "k8s.io"
)

// resetContainers starts the containers that run after a boot. Pods come back with the kubelet. Those of the system
// namespace are the ones of the in-memory containerd: kubelet and etcd run in the CRI's, whose system namespace no call
// lists.
func (n *Node) resetContainers() {
	n.containers = slices.DeleteFunc(n.containers, func(c Container) bool { return c.Namespace == NamespaceSystem })

	if n.config == nil {
		n.containers = nil

		return
	}

	names := []string{"apid"}
	if n.nodeType == ControlPlane {
		names = append(names, "trustd")
	}

	for _, name := range append(names, n.extensionServices()...) {
		n.containers = append(n.containers, Container{
			Namespace: NamespaceSystem, ID: name, InternalID: name, PodID: name, Name: name,
			PID: uint32(servicePID(name)), Status: "RUNNING",
		})
	}
}

// Containers returns the containers of a namespace.
func (n *Node) Containers(namespace string) []Container {
	n.mu.Lock()
	defer n.mu.Unlock()

	var out []Container

	for _, c := range n.containers {
		if c.Namespace == namespace && (namespace != NamespaceSystem || n.serviceRuns(c.Name)) {
			out = append(out, c)
		}
	}

	return out
}

func (n *Node) serviceRuns(id string) bool {
	s := n.services[id]

	return s != nil && s.State == ServiceRunning
}

// AddContainer runs a container in a pod of its own from an image of the cri
// store, named as the runtime would name it: tag, digest, id (bare manifest
// digest) or config (the image ID).
func (n *Node) AddContainer(m images.Manifest, form string) (Container, error) {
	image := m.Repository + ":" + m.Tag

	switch form {
	case "tag":
	case "digest":
		image = m.Repository + "@" + m.Digest
	case "id":
		image = m.Digest
	case "config":
		image = m.Config
	default:
		return Container{}, fmt.Errorf("unknown name form %q: want tag, digest, id or config", form)
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	number := len(n.containers) + 1
	pod := fmt.Sprintf("default/pod-%d", number)
	id := fmt.Sprintf("%012x", n.random.Uint64()>>16)

	c := Container{
		Namespace: NamespaceK8s, ID: pod + ":app:" + id, InternalID: id, UID: n.newUUID(), PodID: pod, Name: "app", Image: image,
		PID: uint32(20000 + number), Status: "CONTAINER_RUNNING",
	}
	sandbox := Container{
		Namespace: NamespaceK8s, ID: pod, InternalID: fmt.Sprintf("%012x", n.random.Uint64()>>16), UID: c.UID, PodID: pod, Name: pod,
		Image: "registry.k8s.io/pause:3.10", PID: c.PID - 1, Status: "SANDBOX_READY",
	}
	n.containers = append(n.containers, sandbox, c)

	return c, nil
}
