package talos

import (
	"cmp"
	"context"
	"math"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/internal/lists"
)

// ContainerStat is the resource usage of a container.
type ContainerStat struct {
	NodeRef

	Namespace   string   `json:"namespace"`             // k8s.io or system.
	ID          string   `json:"id"`                    // The container's ID as Talos shows it.
	PodID       string   `json:"pod_id,omitempty"`      // The pod, NAMESPACE/NAME.
	Name        string   `json:"name"`                  // The container's name within the pod.
	Sandbox     bool     `json:"sandbox"`               // Whether this is the pod itself rather than a container of it.
	CPUSeconds  float64  `json:"cpu_seconds"`           // The CPU time used since it started.
	CPUPercent  *float64 `json:"cpu_percent,omitempty"` // CPU usage over the interval; 100 is one processor.
	MemoryBytes uint64   `json:"memory_bytes"`          // The memory it uses; 0 when the node does not know it.
}

// instance returns the namespace and driver by which Containers and Stats name a containerd instance.
func instance(namespace string) (string, common.ContainerDriver) {
	if namespace == NamespaceSystem {
		return "system", common.ContainerDriver_CONTAINERD
	}

	return "k8s.io", common.ContainerDriver_CRI
}

// ContainerStats reads the resource usage of an instance's containers, by ID. Roles: reader, operator, admin.
func (n *Node) ContainerStats(ctx context.Context, namespace string) ([]ContainerStat, error) {
	req := &machine.StatsRequest{}
	req.Namespace, req.Driver = instance(namespace)

	m, err := first(n.machine().Stats(ctx, req))
	if err != nil {
		return nil, n.Fail("read container stats", err)
	}

	out := make([]ContainerStat, 0, len(m.GetStats()))
	for _, s := range m.GetStats() {
		out = append(out, ContainerStat{
			Namespace: s.GetNamespace(), ID: s.GetId(), PodID: s.GetPodId(), Name: s.GetName(),
			Sandbox:    namespace == NamespaceCRI && s.GetPodId() == s.GetId(),
			CPUSeconds: float64(s.GetCpuUsage()) / 1e9, MemoryBytes: s.GetMemoryUsage(),
		})
	}

	lists.Sort(out, func(a, b ContainerStat) int {
		return cmp.Or(strings.Compare(a.PodID, b.PodID), sandboxFirst(a.Sandbox, b.Sandbox), strings.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})

	return out, nil
}

// SetCPUPercent computes the CPU usage of each container between two readings. A container that is new or was restarted
// gets none.
func SetCPUPercent(before, after []ContainerStat, seconds float64) {
	then := map[string]float64{}
	for _, s := range before {
		then[s.ID+"\x00"+s.Name] = s.CPUSeconds
	}

	for i, s := range after {
		was, known := then[s.ID+"\x00"+s.Name]
		if !known || s.CPUSeconds < was || seconds <= 0 {
			continue
		}

		percent := math.Round((s.CPUSeconds-was)/seconds*10000) / 100
		after[i].CPUPercent = &percent
	}
}

// SortContainers puts each pod before its containers, pods by name.
func SortContainers(list []Container) []Container {
	lists.Sort(list, func(a, b Container) int {
		return cmp.Or(strings.Compare(a.PodID, b.PodID), sandboxFirst(a.Sandbox, b.Sandbox), strings.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})

	return list
}

func sandboxFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}
