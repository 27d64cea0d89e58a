package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/meta"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// failure is the error of one task, which ends its sequence.
type failure struct {
	// phase is the number of the task's phase in the sequence, from 1.
	phase int
	name  string
	task  string
	err   error
}

// failSequence ends a sequence whose task failed, and with it the boot, as machined does: it publishes the error, stops
// all services, reverts the boot loader if an upgrade has not been confirmed, and reboots after a countdown with all
// data. A shutdown powers off instead, without a countdown.
func (n *Node) failSequence(generation int, actor, sequence string, f failure, powerOff bool) {
	message := fmt.Sprintf("error running phase %d in %s sequence: task 1/1: failed, %s", f.phase, sequence, f.err)

	n.logf("machined", "task %s (1/1): failed: %s", f.task, f.err)
	n.logf("machined", "phase %s (%d): failed", f.name, f.phase)
	n.logf("machined", "%s sequence: failed", sequence)

	n.publishSequence(actor, sequence, machineapi.SequenceEvent_STOP)
	n.Events().Publish(actor, &machineapi.SequenceEvent{
		Sequence: sequence, Action: machineapi.SequenceEvent_NOOP,
		Error: &common.Error{Code: common.Code_FATAL, Message: "sequence failed: " + message},
	})
	n.note("sequence-failed", message)

	n.stopServices()

	if !n.pause(generation, n.Times.Shutdown) {
		return
	}

	n.down("sequence failed", true)
	n.revertBoot()

	if powerOff {
		n.PowerOffQuietly()

		return
	}

	n.mu.Lock()
	generation = n.generation
	n.mu.Unlock()

	n.note("countdown", n.Times.Countdown.String())

	if n.pause(generation, n.Times.Countdown) {
		n.comeUp(true)
	}
}

// stopServices stops every service, the API last.
func (n *Node) stopServices() {
	n.stopService("kubelet")
	n.stopEtcd()
	n.stopService("apid")
}

func (n *Node) stopEtcd() {
	if n.Etcd == nil {
		return
	}

	n.stopService("etcd")
	n.Etcd.Stop()
	n.note("etcd-down", "stopped")
}

// revertBoot makes the slot the default that was it before the last upgrade, if that upgrade has not been confirmed by
// a boot that became ready.
func (n *Node) revertBoot() {
	n.mu.Lock()

	label, ok := n.meta[meta.Upgrade]
	if !ok {
		n.mu.Unlock()

		return
	}

	delete(n.meta, meta.Upgrade)

	for i := range n.slots {
		if slotName(i) == label && !n.slots[i].Empty() {
			n.defaultSlot = i
			n.fresh = false
		}
	}

	n.mu.Unlock()
	n.note("boot-loader-reverted", label)
}

// confirmUpgrade removes the way back once a boot is ready; once in each boot. It needs n.mu held.
func (n *Node) confirmUpgrade() {
	if !n.confirmed {
		n.confirmed = true
		delete(n.meta, meta.Upgrade)
	}
}

// errDeadline is the error of a task that waited too long.
var errDeadline = context.DeadlineExceeded

// cordonAndDrain cordons the node and evicts its pods. It fails if the node is not cordoned in time; an eviction that
// fails is only logged. A node that does not register with Kubernetes has no such step, unless the fault requires it.
func (n *Node) cordonAndDrain(actor string) error {
	_, fails := n.Faults.Get(faults.CordonFails)
	if !fails && !n.Registered() {
		return nil
	}

	return n.tryPhase(actor, "drain", "cordonAndDrainNode", func() error {
		if fails {
			n.wait(n.Times.Cordon)

			return errDeadline
		}

		ctx, cancel := context.WithTimeout(context.Background(), n.Times.Cordon)
		defer cancel()

		if err := n.cordon(ctx); err != nil {
			return err
		}

		ctx, cancel = context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()

		if err := n.kubelet.Drain(ctx, n); err != nil {
			n.logf("machined", "failed to drain node: %s", err)
		}

		return nil
	})
}

// cordonRetry is the interval at which machined tries to cordon.
const cordonRetry = 100 * time.Millisecond

func (n *Node) cordon(ctx context.Context) error {
	for {
		_, err := n.kubelet.Cordon(ctx, n)
		if err == nil {
			return nil
		}

		n.logf("machined", "failed to cordon node: %s", err)

		select {
		case <-time.After(cordonRetry):
		case <-ctx.Done():
			return errDeadline
		}
	}
}

// wait waits for a duration, or until the boot has ended.
func (n *Node) wait(d time.Duration) {
	n.mu.Lock()
	generation := n.generation
	n.mu.Unlock()
	n.pause(generation, d)
}

// teardown unmounts the volumes. It fails if something holds one of them.
func (n *Node) teardown(actor string) error {
	if _, stuck := n.Faults.Take(faults.TeardownStuck); !stuck {
		return nil
	}

	n.phase(actor, "stopServices", "stopServicesForUpgrade", n.stopEtcd)

	return n.tryPhase(actor, "volumeFinalize", "teardownLifecycle", func() error {
		n.wait(n.Times.Teardown)

		return errDeadline
	})
}

// errLeave is the error of the fault leave-fails.
var errLeave = errors.New("etcdserver: unhealthy cluster")

// mustLeaveEtcd reports whether a graceful reset has a member to remove: one with data, whose service runs or has failed.
func (n *Node) mustLeaveEtcd() bool {
	if !n.IsControlPlane() || n.Etcd == nil || n.Etcd.Empty() {
		return false
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	s := n.services["etcd"]

	return s != nil && (s.State == ServiceRunning || s.State == ServiceStopping || s.State == ServiceFailed)
}

// memberPoll is the interval at which a reset checks for the ID of its own member.
const memberPoll = 20 * time.Millisecond

// awaitMember waits until the node knows its own member, which it does while that is healthy.
func (n *Node) awaitMember() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.Times.Member)
	defer cancel()

	for {
		if _, ok := n.EtcdMemberID(); ok {
			return nil
		}

		select {
		case <-time.After(memberPoll):
		case <-ctx.Done():
			return fmt.Errorf("failed to get local etcd member ID: %w", ctx.Err())
		}
	}
}

// leaveEtcd removes the node's member from the cluster.
func (n *Node) leaveEtcd(actor string, plan ResetPlan) error {
	return n.tryPhase(actor, "leave", "leaveEtcd", func() error {
		if _, fails := n.Faults.Take(faults.LeaveFails); fails {
			return fmt.Errorf("failed to leave cluster: %w", errLeave)
		}

		if err := n.awaitMember(); err != nil {
			return fmt.Errorf("failed to leave cluster: %w", err)
		}

		if err := plan.Leave(context.Background()); err != nil {
			return fmt.Errorf("failed to leave cluster: %w", err)
		}

		return nil
	})
}
