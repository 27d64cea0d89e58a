package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

const (
	// requestTimeout bounds every request. An API server that was stopped keeps its connections open and does not
	// answer.
	requestTimeout = 3 * time.Second
	// leaseSeconds is the duration in the lease.
	leaseSeconds = 4

	labelControlPlane = "node-role.kubernetes.io/control-plane"
)

// node is one machine. While it is on, a session runs: from power on to power off, with one boot ID. While it is off,
// nothing is written for it.
type node struct {
	client kubernetes.Interface
	clock  clock.WithTicker
	timing Timing
	pods   *store
	log    *slog.Logger
	index  int // the index of this node's pod network
	// context makes the context of a session.
	context func() (context.Context, context.CancelFunc)

	// power serialises power on, power off and changes.
	power   sync.Mutex
	session *session

	mu    sync.Mutex // guards what follows
	spec  Spec
	ready bool

	// wake makes the pod loop check immediately, beat the heartbeat loop.
	wake, beat chan struct{}

	// Used by the pod loop alone. It outlives sessions, since a disk survives a reboot.
	memories map[types.UID]memory
	lastIP   int
}

// session is the time between power on and power off.
type session struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	uid   types.UID // of the Node object, once registered
	since time.Time // when the kubelet started
}

func (n *node) snapshot() (Spec, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spec, n.ready
}

func (n *node) state() State {
	n.power.Lock()
	up := n.session != nil
	n.power.Unlock()
	spec, ready := n.snapshot()
	pods, _ := n.pods.on(spec.Name)
	return State{
		Name: spec.Name, InternalIP: spec.InternalIP, ControlPlane: spec.ControlPlane,
		Up: up, Ready: up && ready, BootID: spec.BootID,
		Version: spec.TalosVersion, KubeletVersion: spec.KubeletVersion, Pods: len(pods),
	}
}

// change applies a change. When it returns after a power off, no request of the node is pending any more.
func (n *node) change(c Change) {
	n.power.Lock()
	defer n.power.Unlock()
	wasUp := n.session != nil
	willUp := wasUp
	if c.Up != nil {
		willUp = *c.Up
	}
	n.mu.Lock()
	newBoot := c.BootID != nil && *c.BootID != n.spec.BootID
	n.mu.Unlock()
	if wasUp && (!willUp || newBoot) {
		n.stop()
	}

	n.mu.Lock()
	if c.BootID != nil {
		n.spec.BootID = *c.BootID
	} else if willUp && !wasUp {
		n.spec.BootID = string(uuid.NewUUID())
	}
	if c.Version != nil {
		n.spec.TalosVersion = *c.Version
	}
	if c.KubeletVersion != nil {
		n.spec.KubeletVersion = *c.KubeletVersion
	}
	if c.Ready != nil {
		n.ready = *c.Ready
	}
	n.mu.Unlock()

	if willUp && n.session == nil {
		n.start()
	}
	poke(n.beat)
	poke(n.wake)
}

// start and stop are called with power held.
func (n *node) start() {
	ctx, cancel := n.context()
	s := &session{cancel: cancel, since: n.clock.Now()}
	n.session = s
	s.done.Add(2)
	go func() {
		defer s.done.Done()
		n.heartbeats(ctx, s)
	}()
	go func() {
		defer s.done.Done()
		n.runPods(ctx, s)
	}()
}

func (n *node) stop() {
	n.session.cancel()
	n.session.done.Wait()
	n.session = nil
}

// heartbeats registers the node and then renews its lease and status.
func (n *node) heartbeats(ctx context.Context, s *session) {
	ticker := n.clock.NewTicker(n.timing.Heartbeat)
	defer ticker.Stop()
	for ctx.Err() == nil {
		err := n.heartbeat(ctx, s)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("heartbeat", "err", err)
			pause(ctx, n.clock, n.timing.Retry)
			continue
		}
		// The kubelet becomes ready between two heartbeats.
		wait := s.since.Add(n.timing.Boot).Sub(n.clock.Now())
		if wait <= 0 || wait > n.timing.Heartbeat {
			wait = n.timing.Heartbeat
		}
		booted := n.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-ticker.C():
		case <-booted.C():
		case <-n.beat:
		}
		booted.Stop()
	}
}

func (n *node) heartbeat(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	spec, ready := n.snapshot()
	obj, err := n.client.CoreV1().Nodes().Get(ctx, spec.Name, metav1.GetOptions{})
	s.mu.Lock()
	registered := s.uid != ""
	s.mu.Unlock()
	switch {
	case apierrors.IsNotFound(err) && registered:
		// A kubelet registers when it starts, and never again: the Node object of a running kubelet stays deleted.
		return nil
	case apierrors.IsNotFound(err):
		obj, err = n.client.CoreV1().Nodes().Create(ctx, newNode(spec, n.index), metav1.CreateOptions{})
	case err == nil && !registered:
		obj, err = n.reconcileLabels(ctx, obj, spec)
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	s.mu.Lock()
	s.uid = obj.UID
	s.mu.Unlock()
	if !registered {
		poke(n.wake)
	}

	now := n.clock.Now()
	booted := !now.Before(s.since.Add(n.timing.Boot))
	updated := obj.DeepCopy()
	setNodeStatus(&updated.Status, spec, ready && booted, now)
	if !equality.Semantic.DeepEqual(updated.Status, obj.Status) {
		if _, err := n.client.CoreV1().Nodes().UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("status: %w", err)
		}
	}
	return n.renewLease(ctx, spec.Name, obj.UID, now)
}

// reconcileLabels updates the labels of an existing node. Taints and the cordon are not changed, since others set them.
func (n *node) reconcileLabels(ctx context.Context, obj *corev1.Node, spec Spec) (*corev1.Node, error) {
	want := newNode(spec, n.index)
	updated := obj.DeepCopy()
	if updated.Labels == nil {
		updated.Labels = map[string]string{}
	}
	maps.Copy(updated.Labels, want.Labels)
	if equality.Semantic.DeepEqual(updated.Labels, obj.Labels) {
		return obj, nil
	}
	return n.client.CoreV1().Nodes().Update(ctx, updated, metav1.UpdateOptions{})
}

func (n *node) renewLease(ctx context.Context, name string, uid types.UID, now time.Time) error {
	leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	seconds := int32(leaseSeconds)
	renewed := metav1.NewMicroTime(now)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name:            name,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}},
			},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
		}, metav1.CreateOptions{})
	} else if err == nil {
		lease = lease.DeepCopy()
		lease.Spec.HolderIdentity = &name
		lease.Spec.LeaseDurationSeconds = &seconds
		lease.Spec.RenewTime = &renewed
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// runPods carries out decide for every pod of the node until power off.
func (n *node) runPods(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		wake := n.syncPods(ctx, s)
		now := n.clock.Now()
		// Mirror pods are checked at least as often as the lease is renewed.
		wait := n.timing.Heartbeat
		if !wake.IsZero() && wake.Sub(now) < wait {
			wait = max(wake.Sub(now), time.Millisecond)
		}
		t := n.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-t.C():
		}
		t.Stop()
	}
}

// syncPods checks every pod once and returns when to check again.
func (n *node) syncPods(ctx context.Context, s *session) time.Time {
	spec, _ := n.snapshot()
	pods, synced := n.pods.on(spec.Name)
	s.mu.Lock()
	uid := s.uid
	s.mu.Unlock()
	if !synced || uid == "" {
		return time.Time{}
	}
	n.forget(pods)
	n.ensureMirrorPods(ctx, spec, uid, pods)

	var next time.Time
	for _, pod := range pods {
		mem := n.memories[pod.UID]
		if mem.ip == "" {
			mem.ip = n.assignIP(pod, spec)
		}
		now := n.clock.Now()
		mem, v := decide(pod, mem, machine{ip: spec.InternalIP, bootID: spec.BootID, timing: n.timing}, now)
		if err := n.carryOut(ctx, pod, v); err != nil {
			if ctx.Err() == nil {
				n.log.Warn("pod", "pod", pod.Namespace+"/"+pod.Name, "err", err)
			}
			v.wake = now.Add(n.timing.Retry)
		} else if v.remove {
			mem.gone = true
		}
		n.memories[pod.UID] = mem
		if !v.wake.IsZero() && (next.IsZero() || v.wake.Before(next)) {
			next = v.wake
		}
	}
	return next
}

// forget drops the state of pods that no longer exist.
func (n *node) forget(pods []*corev1.Pod) {
	known := make(map[types.UID]bool, len(pods))
	for _, p := range pods {
		known[p.UID] = true
	}
	maps.DeleteFunc(n.memories, func(uid types.UID, _ memory) bool { return !known[uid] })
}

func (n *node) ensureMirrorPods(ctx context.Context, spec Spec, uid types.UID, pods []*corev1.Pod) {
	have := map[string]bool{}
	for _, p := range pods {
		have[p.Namespace+"/"+p.Name] = true
	}
	for _, p := range mirrorPods(spec, uid) {
		if have[p.Namespace+"/"+p.Name] {
			continue
		}
		reqCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		_, err := n.client.CoreV1().Pods(p.Namespace).Create(reqCtx, p, metav1.CreateOptions{})
		cancel()
		if err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
			n.log.Warn("mirror pod", "pod", p.Name, "err", err)
		}
	}
}

func (n *node) carryOut(ctx context.Context, pod *corev1.Pod, v verdict) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	api := n.client.CoreV1().Pods(pod.Namespace)
	if v.status != nil {
		updated := pod.DeepCopy()
		updated.Status = *v.status
		written, err := api.UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil // the watch will report it too
		case err != nil:
			return fmt.Errorf("status: %w", err)
		}
		n.pods.put(written)
	}
	if !v.remove {
		return nil
	}
	// The precondition protects a new pod of the same name.
	final := metav1.NewPreconditionDeleteOptions(string(pod.UID))
	final.GracePeriodSeconds = new(int64)
	err := api.Delete(ctx, pod.Name, *final)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

func (n *node) assignIP(pod *corev1.Pod, spec Spec) string {
	if pod.Spec.HostNetwork {
		return spec.InternalIP
	}
	n.lastIP = n.lastIP%253 + 1
	return fmt.Sprintf("10.244.%d.%d", n.index%256, n.lastIP+1)
}

// poke never blocks: one pending wake-up is enough.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// newNode is the object that a kubelet on Talos registers.
func newNode(s Spec, index int) *corev1.Node {
	obj := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name,
			Labels: map[string]string{
				corev1.LabelArchStable: runtime.GOARCH,
				corev1.LabelOSStable:   "linux",
				corev1.LabelHostname:   s.Name,
			},
			Annotations: maps.Clone(s.Annotations),
		},
		Spec: corev1.NodeSpec{
			PodCIDR:  fmt.Sprintf("10.244.%d.0/24", index%256),
			PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", index%256)},
		},
	}
	if s.ControlPlane {
		obj.Labels[labelControlPlane] = ""
		obj.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
	}
	maps.Copy(obj.Labels, s.Labels)
	switch {
	case s.Taints != nil:
		for _, t := range *s.Taints {
			obj.Spec.Taints = append(obj.Spec.Taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
		}
	case s.ControlPlane:
		obj.Spec.Taints = []corev1.Taint{{Key: labelControlPlane, Effect: corev1.TaintEffectNoSchedule}}
	}
	return obj
}

// setNodeStatus writes the fields that the kubelet owns.
func setNodeStatus(status *corev1.NodeStatus, s Spec, ready bool, now time.Time) {
	status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: s.InternalIP},
		{Type: corev1.NodeHostName, Address: s.Name},
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("16"),
		corev1.ResourceMemory:           resource.MustParse("64Gi"),
		corev1.ResourcePods:             resource.MustParse("110"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	if !equality.Semantic.DeepEqual(status.Capacity, room) {
		status.Capacity = room
	}
	if !equality.Semantic.DeepEqual(status.Allocatable, room) {
		status.Allocatable = room.DeepCopy()
	}
	id := strings.ReplaceAll(s.Name, ".", "-")
	status.NodeInfo = corev1.NodeSystemInfo{
		MachineID:               "machine-" + id,
		SystemUUID:              "system-" + id,
		BootID:                  s.BootID,
		KernelVersion:           s.KernelVersion,
		OSImage:                 "Talos (" + s.TalosVersion + ")",
		ContainerRuntimeVersion: "containerd://2.1.6",
		KubeletVersion:          s.KubeletVersion,
		OperatingSystem:         "linux",
		Architecture:            runtime.GOARCH,
	}
	setNodeCondition(status, corev1.NodeMemoryPressure, false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available", now)
	setNodeCondition(status, corev1.NodeDiskPressure, false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure", now)
	setNodeCondition(status, corev1.NodePIDPressure, false, "KubeletHasSufficientPID", "kubelet has sufficient PID available", now)
	if ready {
		setNodeCondition(status, corev1.NodeReady, true, "KubeletReady", "kubelet is posting ready status", now)
	} else {
		setNodeCondition(status, corev1.NodeReady, false, "KubeletNotReady", "container runtime network not ready", now)
	}
}

func setNodeCondition(status *corev1.NodeStatus, kind corev1.NodeConditionType, is bool, reason, message string, now time.Time) {
	want := corev1.NodeCondition{
		Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastHeartbeatTime: stamp(now), LastTransitionTime: stamp(now),
	}
	if is {
		want.Status = corev1.ConditionTrue
	}
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != kind {
			continue
		}
		if have.Status == want.Status && have.Reason == want.Reason {
			return // the lease is the heartbeat, so the status need not change
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		*have = want
		return
	}
	status.Conditions = append(status.Conditions, want)
}
