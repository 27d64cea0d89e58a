package kubelet

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// memory is a kubelet's state for a pod, in addition to the pod's own object.
type memory struct {
	// bootID is the boot that the pod's containers were last started in.
	bootID string
	// ip is the pod's address.
	ip string
	// runningFrom is when the containers of this boot start to run.
	runningFrom time.Time
	// restarts counts the reboots survived.
	restarts int32
	// lost is set when a reboot ended a pod that is never restarted.
	lost bool
	// stopsAt is when a pod that is being deleted has shut down; zero when it is not being deleted.
	stopsAt time.Time
	// stopAsked is when the kubelet learned of the deletion.
	stopAsked time.Time
	// gone is set once the API server knows that nothing runs any more. The object may remain for its finalizers.
	gone bool
}

// machine is the part of a node that a pod depends on.
type machine struct {
	ip     string
	bootID string
	timing Timing
}

// verdict is what to do about a pod.
type verdict struct {
	// status is to be written, unless nil.
	status *corev1.PodStatus
	// remove asks for the final deletion, after the status was written.
	remove bool
	// wake is when to check again; zero when only a change of the pod matters.
	wake time.Time
}

// decide returns what a kubelet does about a pod now. It depends on its arguments alone, so that a pod's whole life can
// be tested without a clock.
func decide(pod *corev1.Pod, mem memory, m machine, now time.Time) (memory, verdict) {
	if mem.gone {
		return mem, verdict{}
	}
	mem = noticeBoot(pod, mem, m, now)
	mem = noticeDeletion(pod, mem, m, now)

	status := pod.Status.DeepCopy()
	status.ObservedGeneration = pod.Generation
	v := verdict{}
	switch {
	case !mem.stopsAt.IsZero():
		if now.Before(mem.stopsAt) {
			return mem, verdict{wake: mem.stopsAt}
		}
		v.remove = true
		if !finished(pod) {
			terminate(pod, status, mem, now, exitCode(shutdownTime(pod, m.timing) > gracePeriod(pod)))
		}
	case finished(pod):
		return mem, v
	case mem.lost:
		terminate(pod, status, mem, now, 255)
	case now.Before(mem.runningFrom):
		v.wake = mem.runningFrom
		show(pod, status, mem, m, now, false)
	default:
		if ends := runEnd(pod, mem); !ends.IsZero() {
			if !now.Before(ends) {
				terminate(pod, status, mem, now, 0)
				break
			}
			v.wake = ends
		}
		show(pod, status, mem, m, now, true)
	}
	if !equality.Semantic.DeepEqual(*status, pod.Status) {
		v.status = status
	}
	return mem, v
}

// noticeBoot starts a pod that is new here, or again after a reboot.
func noticeBoot(pod *corev1.Pod, mem memory, m machine, now time.Time) memory {
	if mem.bootID == m.bootID {
		return mem
	}
	first := mem.bootID == ""
	mem.bootID = m.bootID
	mem.runningFrom = now.Add(seconds(pod, AnnotationStart, m.timing.PodStart))
	if first {
		return mem
	}
	mem.restarts++
	mem.lost = pod.Spec.RestartPolicy == corev1.RestartPolicyNever
	if !mem.stopsAt.IsZero() {
		mem.stopsAt = now // the state does not survive a reboot
	}
	return mem
}

// noticeDeletion sets when the pod will have shut down. The grace period may be shortened afterwards, never extended,
// as with the real kubelet.
func noticeDeletion(pod *corev1.Pod, mem memory, m machine, now time.Time) memory {
	if pod.DeletionTimestamp == nil {
		return mem
	}
	if mem.stopAsked.IsZero() {
		mem.stopAsked = now
		mem.stopsAt = now
		if !now.Before(mem.runningFrom) && !finished(pod) && !mem.lost {
			mem.stopsAt = now.Add(shutdownTime(pod, m.timing))
		}
	}
	if latest := mem.stopAsked.Add(gracePeriod(pod)); latest.Before(mem.stopsAt) {
		mem.stopsAt = latest
	}
	return mem
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func gracePeriod(pod *corev1.Pod) time.Duration {
	s := int64(corev1.DefaultTerminationGracePeriodSeconds)
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		s = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		s = *pod.Spec.TerminationGracePeriodSeconds
	}
	return time.Duration(s) * time.Second
}

func shutdownTime(pod *corev1.Pod, t Timing) time.Duration {
	return seconds(pod, AnnotationShutdown, t.PodStop)
}

// runEnd is when the pod succeeds, or zero if it runs until it is stopped.
func runEnd(pod *corev1.Pod, mem memory) time.Time {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		return time.Time{}
	}
	d := seconds(pod, AnnotationRun, -1)
	if d < 0 {
		return time.Time{}
	}
	return mem.runningFrom.Add(d)
}

// seconds reads a duration from an annotation. An invalid one counts as absent: a kubelet does not refuse a pod for its
// annotations.
func seconds(pod *corev1.Pod, annotation string, otherwise time.Duration) time.Duration {
	f, err := strconv.ParseFloat(pod.Annotations[annotation], 64)
	if err != nil || f < 0 || f > 1e6 {
		return otherwise
	}
	return time.Duration(f * float64(time.Second))
}

func exitCode(killed bool) int32 {
	if killed {
		return 137 // 128 + SIGKILL
	}
	return 0
}

// show fills in the status of a pod that is starting or running.
func show(pod *corev1.Pod, status *corev1.PodStatus, mem memory, m machine, now time.Time, running bool) {
	status.HostIP = m.ip
	status.HostIPs = []corev1.HostIP{{IP: m.ip}}
	status.PodIP = mem.ip
	status.PodIPs = []corev1.PodIP{{IP: mem.ip}}
	if status.StartTime == nil {
		status.StartTime = &metav1.Time{Time: now.Truncate(time.Second)}
	}
	status.Phase = corev1.PodRunning
	if !running && mem.restarts == 0 {
		status.Phase = corev1.PodPending
	}

	ready := running && pod.Annotations[AnnotationReady] != "false"
	status.InitContainerStatuses = nil
	for _, c := range pod.Spec.InitContainers {
		cs := container(c, mem)
		if running {
			cs.Ready = true
			cs.State.Terminated = &corev1.ContainerStateTerminated{
				Reason: "Completed", StartedAt: stamp(mem.runningFrom), FinishedAt: stamp(mem.runningFrom),
			}
		} else {
			cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: "PodInitializing"}
		}
		status.InitContainerStatuses = append(status.InitContainerStatuses, cs)
	}
	status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		cs := container(c, mem)
		cs.Ready = ready
		cs.Started = &running
		if running {
			cs.State.Running = &corev1.ContainerStateRunning{StartedAt: stamp(mem.runningFrom)}
		} else {
			cs.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		}
		status.ContainerStatuses = append(status.ContainerStatuses, cs)
	}

	setCondition(status, corev1.PodReadyToStartContainers, true, "", now)
	setCondition(status, corev1.PodInitialized, true, "", now)
	setCondition(status, corev1.ContainersReady, ready, "ContainersNotReady", now)
	setCondition(status, corev1.PodReady, ready, "ContainersNotReady", now)
	setCondition(status, corev1.PodScheduled, true, "", now)
}

// terminate fills in the status of a pod whose containers have ended.
func terminate(pod *corev1.Pod, status *corev1.PodStatus, mem memory, now time.Time, code int32) {
	status.Phase = corev1.PodSucceeded
	reason := "Completed"
	if code != 0 {
		status.Phase = corev1.PodFailed
		reason = "Error"
	}
	started := mem.runningFrom
	if started.After(now) {
		started = now
	}
	no := false
	status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		cs := container(c, mem)
		cs.Started = &no
		cs.State.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: reason, StartedAt: stamp(started), FinishedAt: stamp(now),
		}
		status.ContainerStatuses = append(status.ContainerStatuses, cs)
	}
	why := "PodCompleted"
	if code != 0 {
		why = "PodFailed"
	}
	setCondition(status, corev1.ContainersReady, false, why, now)
	setCondition(status, corev1.PodReady, false, why, now)
}

func container(c corev1.Container, mem memory) corev1.ContainerStatus {
	cs := corev1.ContainerStatus{
		Name:         c.Name,
		Image:        c.Image,
		ImageID:      c.Image,
		ContainerID:  "containerd://" + mem.bootID + "-" + c.Name,
		RestartCount: mem.restarts,
	}
	if mem.restarts > 0 {
		// What containerd reports for a container whose end it did not see.
		cs.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 255, Reason: "Unknown"}
	}
	return cs
}

// stamp drops what the API does not keep, so that a status read back equals the one written.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, is bool, reasonIfNot string, now time.Time) {
	want := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: stamp(now)}
	if !is {
		want.Status = corev1.ConditionFalse
		want.Reason = reasonIfNot
	}
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != kind {
			continue
		}
		if have.Status != want.Status || have.Reason != want.Reason {
			if have.Status == want.Status {
				want.LastTransitionTime = have.LastTransitionTime
			}
			want.ObservedGeneration = have.ObservedGeneration
			*have = want
		}
		return
	}
	status.Conditions = append(status.Conditions, want)
}
