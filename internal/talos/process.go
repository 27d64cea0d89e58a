package talos

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/lists"
)

// Process is a process of a node.
type Process struct {
	NodeRef

	PID           int32   `json:"pid"`            // The process ID.
	PPID          int32   `json:"ppid"`           // The parent's.
	State         string  `json:"state"`          // running, sleeping, disk_sleep, zombie, stopped, idle, …
	Threads       int32   `json:"threads"`        // How many threads it has.
	CPUSeconds    float64 `json:"cpu_seconds"`    // The CPU time used since it started.
	ResidentBytes uint64  `json:"resident_bytes"` // The resident memory.
	VirtualBytes  uint64  `json:"virtual_bytes"`  // The virtual memory.
	Command       string  `json:"command"`        // Its short name.
	Executable    string  `json:"executable"`     // Its executable, where known.
	Args          string  `json:"args"`           // Its command line in one string, as the node joins it.
	Label         string  `json:"label"`          // Its SELinux label, where there is one.
}

// Orders of processes.
const (
	ByResident = "rss" // The most memory first.
	ByCPU      = "cpu" // The most CPU time first.
	ByPID      = "pid"
)

// Processes lists the node's processes in the given order. Roles: reader, operator, admin.
func (n *Node) Processes(ctx context.Context, order string) ([]Process, error) {
	m, err := first(n.machine().Processes(ctx, &emptypb.Empty{}))
	if err != nil {
		return nil, n.Fail("list processes", err)
	}

	out := make([]Process, 0, len(m.GetProcesses()))

	for _, p := range m.GetProcesses() {
		out = append(out, Process{
			PID: p.GetPid(), PPID: p.GetPpid(), State: processState(p.GetState()), Threads: p.GetThreads(), CPUSeconds: p.GetCpuTime(),
			ResidentBytes: p.GetResidentMemory(), VirtualBytes: p.GetVirtualMemory(), Command: p.GetCommand(),
			Executable: p.GetExecutable(), Args: p.GetArgs(), Label: p.GetLabel(),
		})
	}

	lists.Sort(out, func(a, b Process) int {
		byPID := cmp.Compare(a.PID, b.PID)

		switch order {
		case ByResident:
			return cmp.Or(cmp.Compare(b.ResidentBytes, a.ResidentBytes), byPID)
		case ByCPU:
			return cmp.Or(cmp.Compare(b.CPUSeconds, a.CPUSeconds), byPID)
		default:
			return byPID
		}
	})

	return out, nil
}

// processState spells out the letter of /proc/PID/stat (proc(5)); an unknown letter is returned unchanged.
func processState(letter string) string {
	switch letter {
	case "R":
		return "running"
	case "S":
		return "sleeping"
	case "D":
		return "disk_sleep"
	case "Z":
		return "zombie"
	case "T":
		return "stopped"
	case "t":
		return "tracing_stop"
	case "I":
		return "idle"
	case "X", "x":
		return "dead"
	case "P":
		return "parked"
	default:
		return letter
	}
}
