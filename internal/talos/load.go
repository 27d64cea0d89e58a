package talos

import (
	"context"
	"math"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/lists"
)

// CPU is the processors of a node and how busy they are.
type CPU struct {
	NodeRef

	Model           string      `json:"model"`            // The processor's model.
	Vendor          string      `json:"vendor"`           // Its maker.
	Sockets         int         `json:"sockets"`          // How many packages there are.
	Cores           int         `json:"cores"`            // How many cores in them.
	Threads         int         `json:"threads"`          // How many logical processors.
	MHz             float64     `json:"mhz"`              // The clock of the first, at this moment.
	IntervalSeconds float64     `json:"interval_seconds"` // What the load was measured over; 0 for since the boot.
	Load            *CPULoad    `json:"load"`             // How busy they are together; null when nothing was counted.
	Processors      []Processor `json:"processors"`       // Each logical processor; never null.
	Flags           []string    `json:"flags"`            // What the first can do; never null.
}

// Processor is one logical processor.
type Processor struct {
	ID     uint32   `json:"id"`      // Its number.
	Socket string   `json:"socket"`  // Its package.
	CoreID string   `json:"core_id"` // Its core within the package.
	MHz    float64  `json:"mhz"`     // Its clock at this moment.
	Load   *CPULoad `json:"load"`    // How busy it is; null when nothing was counted.
}

// CPULoad is the share of time spent in each state, 0 to 1.
type CPULoad struct {
	Used   float64 `json:"used_ratio"`   // All but idle and waiting for disks.
	User   float64 `json:"user_ratio"`   // In programs, the nice ones included.
	System float64 `json:"system_ratio"` // In the kernel, interrupts included.
	IOWait float64 `json:"iowait_ratio"` // Idle, waiting for disks.
	Steal  float64 `json:"steal_ratio"`  // Taken by the hypervisor.
	Idle   float64 `json:"idle_ratio"`   // Idle.
}

// CPUTimes are the kernel's counters at one moment.
type CPUTimes struct {
	Total cpuTime
	Each  []cpuTime
}

// cpuTime is seconds since the boot. The guests' time is in user already (proc_stat(5)).
type cpuTime struct{ user, system, ioWait, steal, idle float64 }

// CPU reads what processors the node has. Roles: reader, operator, admin.
func (n *Node) CPU(ctx context.Context) (CPU, error) {
	m, err := first(n.machine().CPUInfo(ctx, &emptypb.Empty{}))
	if err != nil {
		return CPU{}, n.Fail("read the processors", err)
	}

	out := CPU{Processors: []Processor{}, Flags: []string{}}
	sockets, cores := map[string]bool{}, map[string]bool{}

	for i, c := range m.GetCpuInfo() {
		if i == 0 {
			out.Model, out.Vendor, out.MHz, out.Flags = c.GetModelName(), c.GetVendorId(), c.GetCpuMhz(), notNil(c.GetFlags())
		}

		sockets[c.GetPhysicalId()], cores[c.GetPhysicalId()+"/"+c.GetCoreId()] = true, true
		out.Processors = append(out.Processors, Processor{
			ID: c.GetProcessor(), Socket: c.GetPhysicalId(), CoreID: c.GetCoreId(), MHz: c.GetCpuMhz(),
		})
	}

	out.Sockets, out.Cores, out.Threads = len(sockets), len(cores), len(out.Processors)

	return out, nil
}

// CPUTimes reads the counters. Roles: reader, operator, admin.
func (n *Node) CPUTimes(ctx context.Context) (CPUTimes, error) {
	m, err := first(n.machine().SystemStat(ctx, &emptypb.Empty{}))
	if err != nil {
		return CPUTimes{}, n.Fail("read the CPU times", err)
	}

	return CPUTimes{Total: cpuTimeOf(m.GetCpuTotal()), Each: lists.Map(m.GetCpu(), cpuTimeOf)}, nil
}

func cpuTimeOf(s *machine.CPUStat) cpuTime {
	return cpuTime{
		user: s.GetUser() + s.GetNice(), system: s.GetSystem() + s.GetIrq() + s.GetSoftIrq(), ioWait: s.GetIowait(),
		steal: s.GetSteal(), idle: s.GetIdle(),
	}
}

// SetLoad computes the load between two readings; a zero first reading means since the boot.
func (c *CPU) SetLoad(before, after CPUTimes) {
	c.Load = after.Total.since(before.Total)

	for i := range c.Processors {
		if i >= len(after.Each) {
			return
		}

		var then cpuTime
		if i < len(before.Each) {
			then = before.Each[i]
		}

		c.Processors[i].Load = after.Each[i].since(then)
	}
}

func (t cpuTime) since(then cpuTime) *CPULoad {
	d := cpuTime{t.user - then.user, t.system - then.system, t.ioWait - then.ioWait, t.steal - then.steal, t.idle - then.idle}

	all := d.user + d.system + d.ioWait + d.steal + d.idle
	if all <= 0 {
		return nil
	}

	return &CPULoad{
		Used: ratio(d.user+d.system+d.steal, all), User: ratio(d.user, all), System: ratio(d.system, all), IOWait: ratio(d.ioWait, all),
		Steal: ratio(d.steal, all), Idle: ratio(d.idle, all),
	}
}

// ratio is part of all, from 0 to 1, with four digits.
func ratio(part, all float64) float64 {
	return math.Round(min(max(part/all, 0), 1)*10000) / 10000
}

// LoadAverage is how many processes wanted to run.
type LoadAverage struct {
	NodeRef

	Load1  float64 `json:"load1"`  // Averaged over one minute.
	Load5  float64 `json:"load5"`  // Averaged over five.
	Load15 float64 `json:"load15"` // Averaged over fifteen.
}

// LoadAverage reads the node's load averages. Roles: reader, operator, admin.
func (n *Node) LoadAverage(ctx context.Context) (LoadAverage, error) {
	m, err := first(n.machine().LoadAvg(ctx, &emptypb.Empty{}))
	if err != nil {
		return LoadAverage{}, n.Fail("read the load", err)
	}

	return LoadAverage{Load1: m.GetLoad1(), Load5: m.GetLoad5(), Load15: m.GetLoad15()}, nil
}

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
	m, err := first(n.machine().Memory(ctx, &emptypb.Empty{}))
	if err != nil {
		return Memory{}, n.Fail("read the memory", err)
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
