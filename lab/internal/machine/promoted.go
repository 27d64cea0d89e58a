package machine

import "slices"

// promotable are the volumes that Talos 1.14 can put on partitions of their own, with their sizes in GiB and where they
// are mounted. Without a partition they are directories of EPHEMERAL.
func promotable() map[string]struct {
	gib    uint64
	target string
} {
	return map[string]struct {
		gib    uint64
		target string
	}{
		"ETCD": {10, "/var/lib/etcd"}, "CRI": {20, "/var/lib/containerd"}, "KUBELET": {5, "/var/lib/kubelet"}, "LOG": {5, "/var/log"},
	}
}

// Promotable reports whether a volume can have a partition of its own.
func Promotable(label string) bool {
	_, ok := promotable()[label]

	return ok
}

// promoted reports whether a volume has a partition of its own on this node.
func (n *Node) promoted(label string) bool { return slices.Contains(n.partitionLabels, label) }

// PromotedMounts are the mount points of the volumes with a partition of their own, and their sizes in bytes.
func (n *Node) PromotedMounts() map[string]uint64 {
	out := map[string]uint64{}

	for label, volume := range promotable() {
		if n.promoted(label) {
			out[volume.target] = volume.gib << 30
		}
	}

	return out
}

// InEphemeral reports whether a label is a volume that is a directory of EPHEMERAL on this node, as Talos 1.14 knows
// them.
func (n *Node) InEphemeral(label string) bool {
	return n.AtLeast(14) && Promotable(label) && !n.promoted(label)
}

// wipes reports whether a reset erases a volume, with the partition that holds it.
func (n *Node) wipes(plan ResetPlan, label string) bool {
	if plan.SystemDisk && len(plan.Labels) == 0 || slices.Contains(plan.Labels, label) {
		return true
	}

	return Promotable(label) && !n.promoted(label) && slices.Contains(plan.Labels, "EPHEMERAL")
}
