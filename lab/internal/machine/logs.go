package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// initLogs registers the logs that a node of its kind has.
func (n *Node) initLogs() {
	ids := []string{"early-startup", "apid", "containerd", "machined", "dns-resolve-cache", "kubelet", "controller-runtime", "cri", "syslogd", "udevd", "auditd", "dashboard"}
	if n.nodeType == ControlPlane {
		ids = append(ids, "etcd", "trustd")
	}

	ids = append(ids, n.extensionServices()...)

	for _, id := range ids {
		if n.logs[id] == nil {
			n.logs[id] = NewLog(nil)
		}
	}
}

// Log finds a service's log. Its recorded beginning is added at the first use.
func (n *Node) Log(id string) (*Log, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	l := n.logs[id]
	if l == nil {
		return nil, false
	}

	n.recordedBeginning(id, l)

	return l, true
}

func (n *Node) recordedBeginning(id string, l *Log) {
	if n.loggedBefore == nil {
		n.loggedBefore = map[string]bool{}
	}

	if n.loggedBefore[id] {
		return
	}

	n.loggedBefore[id] = true

	name := "MachineService.Logs." + id
	if !n.Recording.Has(name) {
		return
	}

	if raw, err := n.Recording.Bytes(name); err == nil {
		l.prepend(raw)
	}
}

// prepend inserts text before the existing log.
func (l *Log) prepend(raw []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.segments = slices.Insert(l.segments, 0, segment{data: raw})
	l.size += int64(len(raw))
}

// LogIDs lists the registered logs.
func (n *Node) LogIDs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	ids := make([]string, 0, len(n.logs))
	for id := range n.logs {
		ids = append(ids, id)
	}

	slices.Sort(ids)

	return ids
}

// LogWriter returns the log to write to, and registers it if necessary.
func (n *Node) LogWriter(id string) *Log {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.logs[id] == nil {
		n.logs[id] = NewLog(nil)
	}

	return n.logs[id]
}

// logf writes a line to a service's log, in the form of Talos's own services.
func (n *Node) logf(id, format string, args ...any) {
	line := fmt.Sprintf("%s %s\n", time.Now().UTC().Format("2006/01/02 15:04:05.000000"), fmt.Sprintf(format, args...))
	_, _ = n.LogWriter(id).Write([]byte(line)) //nolint:errcheck // in memory
}

// Logf writes a line to a service's log.
func (n *Node) Logf(id, format string, args ...any) { n.logf(id, format, args...) }

// FailService makes a service unhealthy with a message, or healthy again for an empty one.
func (n *Node) FailService(id, message string) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.services[id] == nil {
		return fmt.Errorf("service %q not defined", id)
	}

	if message == "" {
		delete(n.failing, id)
		delete(n.stopped, id)

		if n.services[id].State != ServiceRunning {
			n.startService(id)
		} else {
			n.judgeService(id, true, "")
		}

		return nil
	}

	n.failing[id] = message
	n.judgeService(id, false, message)

	return nil
}

// KillService ends a service and leaves it down.
func (n *Node) KillService(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.services[id] == nil {
		return fmt.Errorf("service %q not defined", id)
	}

	n.stopped[id] = true
	n.moveService(id, ServiceFailed, fmt.Sprintf("Error running Containerd(%s): task %q failed: exit code 137", id, id))

	return nil
}

// ServiceCommand is ServiceStart, ServiceStop or ServiceRestart with Talos's refusals.
func (n *Node) ServiceCommand(id, operation string) error {
	n.mu.Lock()
	defer n.mu.Unlock()

	s := n.services[id]
	if s == nil {
		return fmt.Errorf("service %q not defined", id)
	}

	running := s.State == ServiceRunning

	// an operation that finds nothing to do succeeds for every service
	if operation == "start" && running || operation == "stop" && !running {
		return nil
	}

	if !strings.HasPrefix(id, extensionPrefix) && (id != "kubelet" || operation == "stop") {
		if operation == "restart" && !running {
			operation = "start"
		}

		return fmt.Errorf("service %q doesn't support %s operation via API", id, operation)
	}

	if running {
		n.moveService(id, ServiceStopping, fmt.Sprintf("Sending SIGTERM to task %s (PID %d, container %s)", id, servicePID(id), id))
		n.moveService(id, ServiceFinished, "Service finished successfully")
	}

	if operation == "stop" {
		return nil
	}

	generation := n.generation

	go func() {
		if !n.pause(generation, min(n.Times.Boot/10, 200*time.Millisecond)) {
			return
		}

		n.mu.Lock()
		defer n.mu.Unlock()

		if n.generation == generation && !n.stopped[id] {
			n.startService(id)
		}
	}()

	return nil
}

// Kernel returns the kernel's messages of this boot.
func (n *Node) Kernel() []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return slices.Clone(n.kmsg)
}

// KernelGrown is closed when there is a new kernel message, or the node goes down.
func (n *Node) KernelGrown() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.kmsgMore
}

// printk adds a kernel message in the form of Dmesg's answers. It needs n.mu held.
func (n *Node) printk(facility, priority, format string, args ...any) {
	n.kmsg = append(n.kmsg, fmt.Sprintf("%s: %7s: [%s]: %s", facility, priority, time.Now().UTC().Format(time.RFC3339Nano), fmt.Sprintf(format, args...)))
	close(n.kmsgMore)
	n.kmsgMore = make(chan struct{})
}

// bootMessages writes the messages of the kernel and machined at boot. It needs n.mu held.
func (n *Node) bootMessages() {
	n.kmsg = nil
	n.printk("kern", "notice", "Linux version 6.18.9-talos (@buildkitsandbox) (gcc (GCC) 15.2.0, GNU ld (GNU Binutils) 2.45) #1 SMP Thu Nov 19 12:00:00 UTC 2026\n")
	n.printk("kern", "info", "Command line: talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge pti=on\n")
	n.printk("kern", "info", "BIOS-provided physical RAM map:\n")
	n.printk("kern", "warning", "tsc: Marking TSC unstable due to clocksource is unstable\n")
	n.printk("kern", "info", "virtio_blk virtio2: [sda] %d 512-byte logical blocks (%d GB/%d GiB)\n", n.diskSize/512, n.diskSize/1e9, n.diskSize>>30)
	n.printk("kern", "err", "ACPI: AE_NOT_FOUND, evaluating _DSM\n")
	n.printk("user", "warning", "[talos] [initramfs] booting Talos %s\n", n.versionTag())
	n.printk("user", "warning", "[talos] initialize sequence: 15 phase(s)\n")
	n.printk("user", "warning", "[talos] phase startEverything (7/7): 1 tasks(s)\n")
}

// Printk adds a kernel message.
func (n *Node) Printk(facility, priority, text string) {
	if facility == "" {
		facility = "kern"
	}

	if priority == "" {
		priority = "info"
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	n.printk(facility, priority, "%s\n", text)
}
