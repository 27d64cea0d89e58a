package talos

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"
)

// Memory is the memory of a node.
type Memory struct {
	NodeRef

	TotalBytes       uint64  `json:"total_bytes"`       // All memory that the kernel manages.
	UsedBytes        uint64  `json:"used_bytes"`        // Total minus available, as free(1) counts it.
	FreeBytes        uint64  `json:"free_bytes"`        // Unused memory.
	AvailableBytes   uint64  `json:"available_bytes"`   // What programs can still allocate without swapping.
	BuffersBytes     uint64  `json:"buffers_bytes"`     // Raw block buffers.
	CachedBytes      uint64  `json:"cached_bytes"`      // The page cache.
	SharedBytes      uint64  `json:"shared_bytes"`      // tmpfs and shared memory.
	SlabBytes        uint64  `json:"slab_bytes"`        // The kernel's own structures.
	ReclaimableBytes uint64  `json:"reclaimable_bytes"` // The reclaimable part of them.
	ActiveBytes      uint64  `json:"active_bytes"`      // Recently used.
	InactiveBytes    uint64  `json:"inactive_bytes"`    // Not recently used.
	DirtyBytes       uint64  `json:"dirty_bytes"`       // Waiting to be written to disk.
	CommittedBytes   uint64  `json:"committed_bytes"`   // Allocated by programs, used or not.
	SwapTotalBytes   uint64  `json:"swap_total_bytes"`  // All swap.
	SwapFreeBytes    uint64  `json:"swap_free_bytes"`   // Free swap.
	HugePagesTotal   uint64  `json:"huge_pages_total"`  // How many huge pages are set aside.
	HugePagesFree    uint64  `json:"huge_pages_free"`   // How many of them are free.
	HugePageBytes    uint64  `json:"huge_page_bytes"`   // The size of one.
	UsedRatio        float64 `json:"used_ratio"`        // The used part, 0 to 1.
}

// Memory reads the node's memory (/proc/meminfo, whose kB are 1024 bytes). Roles: reader, operator, admin.
func (n *Node) Memory(ctx context.Context) (Memory, error) {
	resp, err := n.machine().Memory(ctx, &emptypb.Empty{})

	m, err := first(n, "read the memory", resp.GetMessages(), err)
	if err != nil {
		return Memory{}, err
	}

	const kB = 1024

	i := m.GetMeminfo()
	out := Memory{
		TotalBytes: i.GetMemtotal() * kB, FreeBytes: i.GetMemfree() * kB, AvailableBytes: i.GetMemavailable() * kB,
		BuffersBytes: i.GetBuffers() * kB, CachedBytes: i.GetCached() * kB, SharedBytes: i.GetShmem() * kB, SlabBytes: i.GetSlab() * kB,
		ReclaimableBytes: i.GetSreclaimable() * kB, ActiveBytes: i.GetActive() * kB, InactiveBytes: i.GetInactive() * kB,
		DirtyBytes: i.GetDirty() * kB, CommittedBytes: i.GetCommittedas() * kB, SwapTotalBytes: i.GetSwaptotal() * kB,
		SwapFreeBytes: i.GetSwapfree() * kB, HugePagesTotal: i.GetHugepagestotal(), HugePagesFree: i.GetHugepagesfree(),
		HugePageBytes: i.GetHugepagesize() * kB,
	}

	if out.TotalBytes > 0 && out.TotalBytes >= out.AvailableBytes {
		out.UsedBytes = out.TotalBytes - out.AvailableBytes
		out.UsedRatio = ratio(float64(out.UsedBytes), float64(out.TotalBytes))
	}

	return out, nil
}
