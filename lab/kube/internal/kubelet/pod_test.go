package kubelet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// life drives decide through time as a node does, but without waiting.
type life struct {
	t   *testing.T
	pod *corev1.Pod
	mem memory
	m   machine
	now time.Time
}

func newLife(t *testing.T, change func(*corev1.Pod)) *life {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid", Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways,
			Containers:    []corev1.Container{{Name: "c", Image: "i"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if change != nil {
		change(pod)
	}
	return &life{
		t: t, pod: pod, now: start, mem: memory{ip: "10.244.0.2"},
		m: machine{ip: "127.0.1.2", bootID: "boot-1", timing: DefaultTiming()},
	}
}

// step looks at the pod now and stores the status that results.
func (l *life) step() verdict {
	l.t.Helper()
	var v verdict
	l.mem, v = decide(l.pod, l.mem, l.m, l.now)
	if v.status != nil {
		l.pod.Status = *v.status
		// Deciding again at once must not write again.
		if _, again := decide(l.pod, l.mem, l.m, l.now); again.status != nil {
			l.t.Fatalf("the same status is written twice: %+v", again.status)
		}
	}
	if v.remove {
		l.mem.gone = true
	}
	return v
}

// until steps from wake-up to wake-up and returns the time of the last one.
func (l *life) until(done func(verdict) bool) time.Duration {
	l.t.Helper()
	for range 20 {
		v := l.step()
		if done(v) {
			return l.now.Sub(start)
		}
		if v.wake.IsZero() {
			l.t.Fatalf("at +%s nothing more is to happen, the pod is %s", l.now.Sub(start), l.pod.Status.Phase)
		}
		l.now = v.wake
	}
	l.t.Fatal("no end in 20 steps")
	return 0
}

func (l *life) delete(graceSeconds int64) {
	l.pod.DeletionTimestamp = &metav1.Time{Time: l.now.Add(time.Duration(graceSeconds) * time.Second)}
	l.pod.DeletionGracePeriodSeconds = &graceSeconds
}

func (l *life) ready() bool {
	for _, c := range l.pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (l *life) becomesReady() time.Duration {
	l.t.Helper()
	return l.until(func(verdict) bool { return l.ready() })
}

func removed(v verdict) bool { return v.remove }

func annotate(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := 0; i < len(pairs); i += 2 {
			p.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func TestPodBecomesReadyAfterItsStartTime(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   time.Duration
	}{
		"default":    {nil, 300 * time.Millisecond},
		"annotated":  {annotate(AnnotationStart, "2.5"), 2500 * time.Millisecond},
		"unreadable": {annotate(AnnotationStart, "soon"), 300 * time.Millisecond},
		"negative":   {annotate(AnnotationStart, "-1"), 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, tc.change)
			l.step()
			if l.pod.Status.Phase != corev1.PodPending || l.ready() {
				t.Fatalf("before its start time the pod is %s, ready %v", l.pod.Status.Phase, l.ready())
			}
			if got := l.becomesReady(); got != tc.want {
				t.Errorf("ready after %s, want %s", got, tc.want)
			}
			s := l.pod.Status
			if s.Phase != corev1.PodRunning || s.PodIP != "10.244.0.2" || s.HostIP != "127.0.1.2" || s.ContainerStatuses[0].State.Running == nil {
				t.Errorf("status of a running pod: %+v", s)
			}
		})
	}
}

func TestPodNeverReadyByAnnotation(t *testing.T) {
	l := newLife(t, annotate(AnnotationReady, "false"))
	l.until(func(verdict) bool { return l.pod.Status.Phase == corev1.PodRunning })
	if l.ready() {
		t.Fatal("the pod is ready against its annotation")
	}
	delete(l.pod.Annotations, AnnotationReady)
	if l.step(); !l.ready() {
		t.Fatal("the pod is not ready after the annotation went")
	}
}

func TestDeletionTakesTheShutdownTime(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		grace  int64
		want   time.Duration
		phase  corev1.PodPhase
	}{
		"default":               {nil, 30, 200 * time.Millisecond, corev1.PodSucceeded},
		"long shutdown":         {annotate(AnnotationShutdown, "12"), 30, 12 * time.Second, corev1.PodSucceeded},
		"longer than its grace": {annotate(AnnotationShutdown, "12"), 3, 3 * time.Second, corev1.PodFailed},
		"at once":               {annotate(AnnotationShutdown, "0"), 30, 0, corev1.PodSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, tc.change)
			asked := l.becomesReady()
			l.delete(tc.grace)
			if got := l.until(removed) - asked; got != tc.want {
				t.Errorf("removed after %s, want %s", got, tc.want)
			}
			if l.pod.Status.Phase != tc.phase || l.ready() {
				t.Errorf("at last the pod is %s, ready %v; want %s, not ready", l.pod.Status.Phase, l.ready(), tc.phase)
			}
			if v := l.step(); v.remove || v.status != nil || !v.wake.IsZero() {
				t.Errorf("a pod that is gone (but for finalizers) is touched again: %+v", v)
			}
		})
	}
}

func TestPodStaysReadyWhileItShutsDown(t *testing.T) {
	l := newLife(t, annotate(AnnotationShutdown, "5"))
	l.becomesReady()
	l.delete(30)
	v := l.step()
	if v.remove || !l.ready() || v.wake.Sub(l.now) != 5*time.Second {
		t.Fatalf("remove %v, ready %v, wake in %s", v.remove, l.ready(), v.wake.Sub(l.now))
	}
}

func TestSecondDeletionShortensTheGrace(t *testing.T) {
	l := newLife(t, annotate(AnnotationShutdown, "20"))
	asked := l.becomesReady()
	l.delete(30)
	l.step()
	l.now = l.now.Add(2 * time.Second)
	l.delete(4)
	if got := l.until(removed) - asked; got != 4*time.Second {
		t.Errorf("removed after %s, want 4s", got)
	}
}

func TestPendingPodIsRemovedAtOnce(t *testing.T) {
	l := newLife(t, annotate(AnnotationStart, "60", AnnotationShutdown, "60"))
	l.step()
	l.delete(90)
	if v := l.step(); !v.remove {
		t.Fatal("a pod that never ran takes time to stop")
	}
}

func TestRebootRestartsPods(t *testing.T) {
	l := newLife(t, nil)
	l.becomesReady()
	l.m.bootID = "boot-2"
	l.now = l.now.Add(10 * time.Second)
	l.step()
	if l.ready() || l.pod.Status.Phase != corev1.PodRunning {
		t.Fatalf("after the reboot: ready %v, %s", l.ready(), l.pod.Status.Phase)
	}
	l.becomesReady()
	c := l.pod.Status.ContainerStatuses[0]
	if c.RestartCount != 1 || c.LastTerminationState.Terminated == nil {
		t.Errorf("after the reboot: %+v", c)
	}
}

func TestNoRestartWithoutReboot(t *testing.T) {
	l := newLife(t, nil)
	l.becomesReady()
	// The node lifecycle controller does this to the pods of a lost node.
	for i := range l.pod.Status.Conditions {
		if l.pod.Status.Conditions[i].Type == corev1.PodReady {
			l.pod.Status.Conditions[i].Status = corev1.ConditionFalse
		}
	}
	l.now = l.now.Add(time.Minute)
	if l.step(); !l.ready() || l.pod.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("ready %v, %+v", l.ready(), l.pod.Status.ContainerStatuses[0])
	}
}

func TestRebootEndsPodsThatAreNeverRestarted(t *testing.T) {
	l := newLife(t, func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
	l.becomesReady()
	l.m.bootID = "boot-2"
	if l.step(); l.pod.Status.Phase != corev1.PodFailed {
		t.Errorf("the pod is %s", l.pod.Status.Phase)
	}
}

func TestRebootEndsAShutdown(t *testing.T) {
	l := newLife(t, annotate(AnnotationShutdown, "50"))
	l.becomesReady()
	l.delete(60)
	l.step()
	l.m.bootID = "boot-2"
	l.now = l.now.Add(time.Second)
	if v := l.step(); !v.remove {
		t.Error("a pod went on shutting down over a reboot")
	}
}

func TestJobsPodSucceedsByItself(t *testing.T) {
	l := newLife(t, func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Annotations[AnnotationRun] = "3"
	})
	got := l.until(func(verdict) bool { return l.pod.Status.Phase == corev1.PodSucceeded })
	if want := 3300 * time.Millisecond; got != want {
		t.Errorf("succeeded after %s, want %s", got, want)
	}
	if v := l.step(); v.status != nil || !v.wake.IsZero() {
		t.Errorf("a finished pod is touched again: %+v", v)
	}
}

func TestForeignConditionsStay(t *testing.T) {
	l := newLife(t, nil)
	l.becomesReady()
	l.pod.Status.Conditions = append(l.pod.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue})
	l.delete(30)
	l.until(removed)
	for _, c := range l.pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return
		}
	}
	t.Error("the eviction's condition was lost")
}
