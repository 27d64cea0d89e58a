package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// begin takes the sequencer; only one sequence runs at a time.
func (n *Node) begin(sequence string) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	if !n.powered {
		return 0, fmt.Errorf("node is off")
	}

	if n.sequence != "" && n.sequence != "boot" {
		return 0, fmt.Errorf("%w: %s", ErrLocked, n.sequence)
	}

	n.sequence = sequence

	return n.generation, nil
}

// pause waits, and returns false when the node's boot has ended meanwhile.
func (n *Node) pause(generation int, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	<-timer.C

	return n.alive(generation)
}

func (n *Node) alive(generation int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.generation == generation && n.powered
}

// setStage sets the machine's stage.
func (n *Node) setStage(stage runtime.MachineStage) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.stage = stage
	n.refresh()
}

func (n *Node) publishSequence(actor, sequence string, action machineapi.SequenceEvent_Action) {
	n.Events().Publish(actor, &machineapi.SequenceEvent{Sequence: sequence, Action: action})
}

// phase announces a phase with its only task.
func (n *Node) phase(actor, phase, task string, do func()) {
	_ = n.tryPhase(actor, phase, task, func() error { //nolint:errcheck // it never fails
		if do != nil {
			do()
		}

		return nil
	})
}

// tryPhase is phase for a task that can fail.
func (n *Node) tryPhase(actor, phase, task string, do func() error) error {
	events := n.Events()
	events.Publish(actor, &machineapi.PhaseEvent{Phase: phase, Action: machineapi.PhaseEvent_START})
	events.Publish(actor, &machineapi.TaskEvent{Task: task, Action: machineapi.TaskEvent_START})

	err := do()

	events.Publish(actor, &machineapi.TaskEvent{Task: task, Action: machineapi.TaskEvent_STOP})
	events.Publish(actor, &machineapi.PhaseEvent{Phase: phase, Action: machineapi.PhaseEvent_STOP})

	return err
}

// The phases of the sequences in which volumes are torn down, without the drain before it.
const (
	rebootTeardownPhase   = 7
	shutdownTeardownPhase = 8
	upgradeTeardownPhase  = 7
)

// drains is the number of phases that the drain adds to a sequence.
func (n *Node) drains() int {
	if _, fails := n.Faults.Get(faults.CordonFails); fails || n.Registered() {
		return 1
	}

	return 0
}

// drainFailed and teardownFailed name the phases in which a sequence can fail.
func drainFailed(phase int, err error) failure {
	return failure{phase: phase, name: "drain", task: "cordonAndDrainNode", err: err}
}

func teardownFailed(phase int, err error) failure {
	return failure{phase: phase, name: "volumeFinalize", task: "teardownLifecycle", err: err}
}

// RebootMode is the mode of a reboot.
type RebootMode int

// The modes of the Reboot call.
const (
	RebootDefault RebootMode = iota
	RebootPowercycle
	RebootForce
)

// Reboot runs the reboot sequence in the background. A request while another sequence runs is accepted and then fails
// in the node's own log, as in Talos.
func (n *Node) Reboot(actor string, mode RebootMode) {
	generation, err := n.begin("reboot")
	if err != nil {
		n.logf("machined", "reboot failed: %s", err)

		return
	}

	n.note("reboot", "requested")

	go func() {
		n.publishSequence(actor, "reboot", machineapi.SequenceEvent_START)
		n.setStage(runtime.MachineStageRebooting)

		if mode != RebootForce {
			if err := n.stopAll(actor); err != nil {
				n.failSequence(generation, actor, "reboot", teardownFailed(rebootTeardownPhase, err), false)

				return
			}
		}

		if n.pause(generation, n.Times.Shutdown) {
			n.restart("reboot", mode != RebootDefault || n.Running().SecureBoot)
		}
	}()
}

// Shutdown runs the shutdown sequence.
func (n *Node) Shutdown(actor string, force bool) {
	generation, err := n.begin("shutdown")
	if err != nil {
		n.logf("machined", "shutdown failed: %s", err)

		return
	}

	n.note("shutdown", "requested")

	go func() {
		n.publishSequence(actor, "shutdown", machineapi.SequenceEvent_START)
		n.setStage(runtime.MachineStageShuttingDown)

		drains := 0

		if !force {
			if err := n.cordonAndDrain(actor); err != nil {
				n.failSequence(generation, actor, "shutdown", drainFailed(2, err), true)

				return
			}

			drains = n.drains()
		}

		if err := n.stopAll(actor); err != nil {
			n.failSequence(generation, actor, "shutdown", teardownFailed(shutdownTeardownPhase+drains, err), true)

			return
		}

		if n.pause(generation, n.Times.Shutdown) {
			n.PowerOff("shutdown")
		}
	}()
}

// stopAll stops pods and services in the order of the recordings. It fails if the volumes cannot be torn down; the API
// answers until then.
func (n *Node) stopAll(actor string) error {
	n.phase(actor, "cleanup", "stopAllPods", func() { n.stopService("kubelet") })
	n.phase(actor, "dbus", "stopDBus", nil)

	if err := n.teardown(actor); err != nil {
		return err
	}

	n.phase(actor, "stopEverything", "stopAllServices", func() {
		n.stopEtcd()
		n.stopService("apid")
	})

	return nil
}

func (n *Node) stopService(id string) {
	n.mu.Lock()

	if n.services[id] == nil || n.services[id].State != ServiceRunning {
		n.mu.Unlock()

		return
	}

	if id == "kubelet" {
		n.k8sReady = false
	}

	n.moveService(id, ServiceStopping, fmt.Sprintf("Sending SIGTERM to task %s (PID %d, container %s)", id, servicePID(id), id))
	n.moveService(id, ServiceFinished, "Service finished successfully")
	n.mu.Unlock()

	if id == "kubelet" {
		n.cluster.KubeletStopped(n)
		n.kubelet.Stop(n)
	}
}

// down disconnects the node from the network at the end of a boot.
func (n *Node) down(reason string, inOrder bool) {
	n.api.Down(inOrder)

	n.mu.Lock()
	n.up = false
	n.generation++
	close(n.ended)
	n.ended = make(chan struct{})
	n.sequence = ""
	n.state = nil
	n.k8sReady = false
	n.kubeStatus = nil
	n.vipSeen = n.vipHeld
	n.events.Close()

	for _, l := range n.logs {
		l.Close()
	}

	if n.try != nil {
		n.try.Stop()
		n.try = nil
	}

	n.mu.Unlock()
	n.kubelet.Stop(n)

	if n.Etcd != nil {
		was := n.Etcd.Running()
		n.Etcd.Kill()

		if was {
			n.note("etcd-down", reason)
		}
	}

	n.note("down", reason)
	n.cluster.Changed(n)
}

// restart goes down and comes up again after the boot time: through kexec, or through the firmware for a cold boot.
func (n *Node) restart(reason string, cold bool) {
	n.down(reason, true)
	n.comeUp(cold)
}

// comeUp boots a node that is down.
func (n *Node) comeUp(cold bool) {
	n.mu.Lock()
	n.history.Reboots = append(n.history.Reboots, time.Now())
	n.mu.Unlock()

	_, never := n.Faults.Take(faults.NeverReturn)
	_, fails := n.Faults.Get(faults.ColdBootFails)

	switch {
	case never:
		n.lost("never returns")
	case cold && fails:
		n.lost("the cold boot fails")
	default:
		n.cameBy(cold)
		n.bootLater()
	}
}

// cameBy notes how the next boot comes up.
func (n *Node) cameBy(cold bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.kexec = !cold
}

// lost leaves a node dark.
func (n *Node) lost(reason string) {
	n.mu.Lock()
	n.powered = false
	n.mu.Unlock()
	n.note("lost", reason)
}

// PowerOff switches the node off immediately.
func (n *Node) PowerOff(reason string) {
	n.mu.Lock()
	was := n.powered
	n.powered = false
	n.mu.Unlock()

	if was {
		n.down(reason, false)
		n.note("power-off", reason)
	}
}

// PowerOn starts a node that is off; it takes the boot time.
func (n *Node) PowerOn() {
	n.mu.Lock()
	was := n.powered
	n.powered = true
	n.mu.Unlock()

	if was {
		return
	}

	n.note("power-on", "")

	if _, fails := n.Faults.Get(faults.ColdBootFails); fails {
		n.lost("the cold boot fails")

		return
	}

	n.cameBy(true)
	n.bootLater()
}

func (n *Node) bootLater() {
	n.mu.Lock()
	generation := n.generation
	n.mu.Unlock()

	wait := n.Times.Boot
	if f, ok := n.Faults.Get(faults.SlowBoot); ok {
		wait += f.Dur
	}

	go func() {
		if n.pause(generation, wait) {
			n.boot(generation, false)
		}
	}()
}

// Boot brings a powered-off node up without the boot time, when the lab starts.
func (n *Node) Boot() {
	n.mu.Lock()
	n.powered = true
	generation := n.generation
	n.mu.Unlock()

	n.boot(generation, true)
}

// boot is one boot: slot, boot ID, staged upgrade, listener, services.
func (n *Node) boot(generation int, first bool) {
	if !n.chooseSlot() {
		n.lost("no slot boots")

		return
	}

	fromPlatform := n.platformConfig()

	n.mu.Lock()
	n.config = n.persisted
	n.bootID = n.newUUID()
	n.bootTime = time.Now()
	n.history.Boots = append(n.history.Boots, n.bootTime)
	n.events = NewEvents()
	n.stage = runtime.MachineStageBooting
	n.confirmed = false
	n.sequence = "boot"
	n.services = map[string]*Service{}
	n.stopped = map[string]bool{}
	n.failing = map[string]string{}
	n.Images.Forget()
	n.resetContainers()
	n.bootMessages()

	for _, l := range n.logs {
		l.Reopen()
	}

	maintenance := n.config == nil
	staged := n.staged
	n.staged = nil

	if !maintenance {
		n.adoptType()
		n.bootNetwork()
		n.etcdWanted = n.Etcd != nil && n.nodeType == ControlPlane
	}

	for _, id := range n.serviceIDs() {
		if maintenance && (id == "kubelet" || id == "etcd" || id == "trustd" || id == "cri" || strings.HasPrefix(id, extensionPrefix)) {
			continue
		}

		if id == "etcd" && n.Etcd == nil {
			continue
		}

		n.services[id] = &Service{ID: id, State: ServiceWaiting, Unknown: true, Events: []ServiceEvent{
			{State: ServiceStarting, Message: "Starting service", Time: n.bootTime},
		}}
	}

	n.mu.Unlock()
	n.note("boot", n.Version())

	if staged != nil {
		n.installStaged(generation, staged)

		return
	}

	if fromPlatform && !n.Installed() {
		go n.firstInstall(generation, n.Config())

		return
	}

	n.bootServices(generation, maintenance, first)
}

// platformConfig gets a configuration from the platform if there is none on the disk, and reports whether it got one.
func (n *Node) platformConfig() bool {
	_, armed := n.Faults.Get(faults.PlatformConfig)

	n.mu.Lock()
	got := n.persisted == nil && n.first != nil && (n.platform || armed)

	if got {
		n.persisted = n.first
	}
	n.mu.Unlock()

	if got {
		n.note("config", "from the platform")
	}

	return got
}

func (n *Node) bootServices(generation int, maintenance, first bool) {
	n.publishSequence("", "boot", machineapi.SequenceEvent_START)

	n.mu.Lock()
	for _, id := range []string{"machined", "containerd", "syslogd", "auditd", "udevd", "dashboard", "apid"} {
		n.startService(id)
	}
	n.mu.Unlock()

	if err := n.api.Up(maintenance); err != nil {
		n.note("error", "apid: "+err.Error())

		return
	}

	n.mu.Lock()
	n.up, n.upTime = true, time.Now()
	n.mu.Unlock()
	n.note("up", n.Version())
	n.cluster.Changed(n)

	if maintenance {
		n.mu.Lock()
		n.sequence = ""
		n.mu.Unlock()
		n.setStage(runtime.MachineStageMaintenance)

		return
	}

	settle := n.Times.Boot / 10
	if first {
		settle = 0
	}

	finish := func() {
		if settle > 0 && !n.pause(generation, settle) {
			return
		}

		n.startRest(generation)
	}

	if first {
		finish()
	} else {
		go finish()
	}
}

// startRest starts what needs the disk and the network, and ends the boot sequence.
func (n *Node) startRest(generation int) {
	withoutKubernetes := false
	if _, ok := n.Faults.Take(faults.ReturnWithoutKubernetes); ok {
		withoutKubernetes = true
	}

	n.mu.Lock()
	if n.generation != generation || !n.powered {
		n.mu.Unlock()

		return
	}

	for _, id := range append([]string{"cri", "trustd"}, n.extensionServices()...) {
		n.startService(id)
	}

	if withoutKubernetes {
		n.failing["kubelet"] = "Get \"http://127.0.0.1:10248/healthz\": dial tcp 127.0.0.1:10248: connect: connection refused"
	}

	n.startService("kubelet")
	_, kubeletFails := n.failing["kubelet"]
	n.mu.Unlock()

	if n.etcdWaits() {
		// the boot continues after a bootstrap, or when a cluster accepts the member
		go func() {
			// a bootstrap in progress writes the member's data itself, and starts it
			for n.isBootstrapping() {
				if !n.pause(generation, joinRetry) {
					return
				}
			}

			n.startEtcd(generation)

			// the boot waits for healthy services, and a learner's etcd is not
			for n.isLearner() && n.pause(generation, memberPoll) {
			}

			n.finishBoot(generation, kubeletFails)
		}()

		return
	}

	n.startEtcd(generation)
	n.finishBoot(generation, kubeletFails)
}

// etcdWaits reports whether the member has no data and no cluster to start with yet.
func (n *Node) etcdWaits() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.Etcd != nil && n.services["etcd"] != nil && (n.bootstrapping || len(n.initialEtcd) == 0 && n.Etcd.Empty())
}

func (n *Node) isBootstrapping() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.bootstrapping
}

// finishBoot ends the boot sequence.
func (n *Node) finishBoot(generation int, kubeletFails bool) {
	n.mu.Lock()
	if n.generation != generation || !n.powered {
		n.mu.Unlock()

		return
	}

	if n.sequence == "boot" {
		n.sequence = ""
	}

	n.stage = runtime.MachineStageRunning
	n.refresh()
	n.mu.Unlock()

	n.publishSequence("", "boot", machineapi.SequenceEvent_STOP)

	if n.Registered() && !kubeletFails {
		n.kubelet.Start(n)
	}
}

// startEtcd runs the node's member, if it belongs to a cluster.
func (n *Node) startEtcd(generation int) {
	n.mu.Lock()
	wanted := n.etcdWanted && n.Etcd != nil && n.services["etcd"] != nil
	n.mu.Unlock()

	if !wanted {
		return
	}

	n.mu.Lock()
	n.moveService("etcd", ServicePreparing, "Running pre state")
	n.moveService("etcd", ServicePreparing, "Creating service runner")
	n.mu.Unlock()

	if err := n.joinEtcd(generation); err != nil {
		if n.alive(generation) && !errors.Is(err, errSuperseded) {
			n.failEtcd(err)
		}

		return
	}

	n.mu.Lock()
	n.moveService("etcd", ServiceRunning, startedMessage("etcd"))
	n.mu.Unlock()
	n.note("etcd-up", "started")

	go n.watchEtcd(generation)
}

// watchEtcd checks the member's health until the boot or the member ends. machined reads a key, which a learner refuses.
func (n *Node) watchEtcd(generation int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	err := n.Etcd.Ready(ctx)

	if err == nil && n.isLearner() {
		n.mu.Lock()
		n.judgeService("etcd", false, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner).Error())
		n.mu.Unlock()

		for n.isLearner() && n.pause(generation, memberPoll) {
		}
	}

	if !n.alive(generation) {
		return
	}

	n.mu.Lock()
	if n.services["etcd"] != nil && n.services["etcd"].State == ServiceRunning {
		n.judgeService("etcd", err == nil, fmt.Sprint(err))
	}

	n.mu.Unlock()
}
