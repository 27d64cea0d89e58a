package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// scene is a Manager on a fake API server, in a bubble of synctest: its time
// passes only when everything waits, so that a second here is exactly that.
type scene struct {
	*testing.T
	ctx    context.Context
	client *fake.Clientset
	down   *atomic.Bool // the API server refuses everything
	hangUp func()       // ends the watch of the pods
	m      *Manager
}

func play(t *testing.T, script func(s scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client := fake.NewClientset()
		uids := 0
		client.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
			// The fake gives no UIDs, and a kubelet tells pods apart by them.
			if obj, ok := a.(clienttesting.CreateAction).GetObject().(metav1.Object); ok && obj.GetUID() == "" {
				uids++
				obj.SetUID(types.UID(fmt.Sprint("uid-", uids)))
			}
			return false, nil, nil
		})
		down := &atomic.Bool{}
		client.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			if down.Load() {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		var watching watch.Interface
		client.PrependWatchReactor("pods", func(a clienttesting.Action) (bool, watch.Interface, error) {
			w, err := client.Tracker().Watch(a.GetResource(), a.GetNamespace())
			watching = w
			return true, w, err
		})
		s := scene{T: t, ctx: ctx, client: client, down: down, hangUp: func() { watching.Stop() }, m: Start(ctx, Config{
			Client: client, Log: slog.New(slog.DiscardHandler), KubeletVersion: "v1.35.4",
		})}
		defer cancel()
		defer s.m.Stop()
		// The fake forgets what happens between a list and its watch.
		synctest.Wait()
		script(s)
	})
}

func (s scene) add(spec Spec) {
	s.Helper()
	if _, err := s.m.Add(spec); err != nil {
		s.Fatal(err)
	}
}

func (s scene) change(name string, c Change) State {
	s.Helper()
	st, err := s.m.Change(name, c)
	if err != nil {
		s.Fatal(err)
	}
	return st
}

func (s scene) pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func (s scene) node(name string) *corev1.Node {
	s.Helper()
	n, err := s.client.CoreV1().Nodes().Get(s.ctx, name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s scene) ready(name string) corev1.ConditionStatus {
	s.Helper()
	for _, c := range s.node(name).Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

func (s scene) renewed(name string) time.Time {
	s.Helper()
	l, err := s.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(s.ctx, name, metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return l.Spec.RenewTime.Time
}

func (s scene) pod(ns, name string) *corev1.Pod {
	s.Helper()
	p, err := s.client.CoreV1().Pods(ns).Get(s.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		s.Fatal(err)
	}
	return p
}

func (s scene) run(name, node string) {
	s.Helper()
	_, err := s.client.CoreV1().Pods("ns").Create(s.ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"},
		Spec:       corev1.PodSpec{NodeName: node, RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "c"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
}

func worker(name string) Spec {
	return Spec{Name: name, InternalIP: "127.0.1.9", TalosVersion: "v1.13.8", BootID: "boot-1"}
}

func ptr[T any](v T) *T { return &v }

func TestNodeRegistersAndBecomesReady(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(100 * time.Millisecond)
		if got := s.ready("w"); got != corev1.ConditionFalse {
			t.Errorf("while it boots the node's Ready is %q", got)
		}
		s.pass(500 * time.Millisecond)
		if got := s.ready("w"); got != corev1.ConditionTrue {
			t.Errorf("after the boot the node's Ready is %q", got)
		}
		info := s.node("w").Status.NodeInfo
		if info.OSImage != "Talos (v1.13.8)" || info.BootID != "boot-1" || info.KubeletVersion != "v1.35.4" {
			t.Errorf("node info %+v", info)
		}
	})
}

func TestLeaseIsRenewedEverySecondWhileUp(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(5 * time.Second)
		before := s.renewed("w")
		s.pass(time.Second)
		if got := s.renewed("w").Sub(before); got <= 0 || got > 2*time.Second {
			t.Errorf("renewed %s later", got)
		}
		s.change("w", Change{Up: ptr(false)})
		last := s.renewed("w")
		s.pass(time.Minute)
		if got := s.renewed("w"); !got.Equal(last) {
			t.Errorf("a node that is off renewed its lease at %s", got)
		}
	})
}

func TestRebootShowsNotReadyThenReadyWithANewBootID(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.run("p", "w")
		s.pass(3 * time.Second)
		s.change("w", Change{Up: ptr(false)})
		s.pass(time.Second) // much shorter than the grace of the node controller
		st := s.change("w", Change{Up: ptr(true), Version: ptr("v1.13.9")})
		if st.BootID == "boot-1" || st.BootID == "" {
			t.Errorf("boot ID %q after the reboot", st.BootID)
		}
		s.pass(100 * time.Millisecond)
		if s.ready("w") != corev1.ConditionFalse || s.node("w").Status.NodeInfo.BootID != st.BootID {
			t.Errorf("at once after the boot: Ready %s, %+v", s.ready("w"), s.node("w").Status.NodeInfo)
		}
		s.pass(2 * time.Second)
		if s.ready("w") != corev1.ConditionTrue || s.node("w").Status.NodeInfo.OSImage != "Talos (v1.13.9)" {
			t.Errorf("later: Ready %s, %+v", s.ready("w"), s.node("w").Status.NodeInfo)
		}
		if p := s.pod("ns", "p"); p.Status.ContainerStatuses[0].RestartCount != 1 {
			t.Errorf("pod after the reboot: %+v", p.Status.ContainerStatuses[0])
		}
	})
}

func TestRebootOfNoLength(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(3 * time.Second)
		s.change("w", Change{BootID: ptr("boot-2")})
		s.pass(100 * time.Millisecond)
		if s.ready("w") != corev1.ConditionFalse {
			t.Error("the reboot was not seen")
		}
		s.pass(2 * time.Second)
		if s.ready("w") != corev1.ConditionTrue || s.node("w").Status.NodeInfo.BootID != "boot-2" {
			t.Error("the node did not come back")
		}
	})
}

func TestNothingHappensToPodsOfANodeThatIsOff(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(2 * time.Second)
		s.change("w", Change{Up: ptr(false)})
		s.run("p", "w")
		s.pass(time.Minute)
		if p := s.pod("ns", "p"); p.Status.Phase != "" {
			t.Fatalf("the pod is %s", p.Status.Phase)
		}
		s.change("w", Change{Up: ptr(true), BootID: ptr("boot-1")})
		s.pass(2 * time.Second)
		if p := s.pod("ns", "p"); p.Status.Phase != corev1.PodRunning {
			t.Fatalf("after power on the pod is %s", p.Status.Phase)
		}
	})
}

func TestUnreadyKubelet(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(2 * time.Second)
		s.change("w", Change{Ready: ptr(false)})
		s.pass(50 * time.Millisecond)
		if s.ready("w") != corev1.ConditionFalse {
			t.Error("the node is ready")
		}
		s.change("w", Change{Ready: ptr(true)})
		s.pass(50 * time.Millisecond)
		if s.ready("w") != corev1.ConditionTrue {
			t.Error("the node is not ready")
		}
	})
}

func TestMirrorPodsOfAControlPlane(t *testing.T) {
	play(t, func(s scene) {
		spec := worker("cp")
		spec.ControlPlane = true
		s.add(spec)
		s.pass(3 * time.Second)
		n := s.node("cp")
		if len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != labelControlPlane {
			t.Errorf("taints %v", n.Spec.Taints)
		}
		p := s.pod(metav1.NamespaceSystem, "kube-apiserver-cp")
		if p == nil {
			t.Fatal("no mirror pod")
		}
		owner := p.OwnerReferences[0]
		if p.Annotations[corev1.MirrorPodAnnotationKey] == "" || owner.Kind != "Node" || owner.UID != n.UID || p.Status.Phase != corev1.PodRunning {
			t.Errorf("mirror pod %+v", p)
		}
		if err := s.client.CoreV1().Pods(metav1.NamespaceSystem).Delete(s.ctx, p.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.pass(2 * time.Second)
		if s.pod(metav1.NamespaceSystem, "kube-apiserver-cp") == nil {
			t.Error("a deleted mirror pod did not come back")
		}
	})
}

func TestCordonAndTaintsSurviveAReboot(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(2 * time.Second)
		n := s.node("w")
		n.Spec.Unschedulable = true
		n.Spec.Taints = []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoSchedule}}
		if _, err := s.client.CoreV1().Nodes().Update(s.ctx, n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.change("w", Change{BootID: ptr("boot-2")})
		s.pass(2 * time.Second)
		if n := s.node("w"); !n.Spec.Unschedulable || len(n.Spec.Taints) != 1 {
			t.Errorf("after the reboot: %+v", n.Spec)
		}
	})
}

func TestDeletedNodeRegistersAgainOnlyAfterAReboot(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(2 * time.Second)
		if err := s.client.CoreV1().Nodes().Delete(s.ctx, "w", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		s.pass(10 * time.Second)
		if _, err := s.client.CoreV1().Nodes().Get(s.ctx, "w", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("the node came back by itself: %v", err)
		}
		s.change("w", Change{BootID: ptr("boot-2")})
		s.pass(2 * time.Second)
		if s.ready("w") != corev1.ConditionTrue {
			t.Error("the node did not come back with the reboot")
		}
	})
}

func TestKubeletSurvivesAnAPIServerOutage(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.pass(2 * time.Second)
		s.down.Store(true)
		s.hangUp()
		s.pass(30 * time.Second)
		s.down.Store(false)
		before := time.Now()
		s.pass(time.Second)
		if got := s.renewed("w"); got.Before(before) {
			t.Errorf("a second after the outage the lease is still that of %s", got)
		}
		s.run("p", "w")
		s.pass(time.Second)
		if p := s.pod("ns", "p"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("a pod bound after the outage is %q", p.Status.Phase)
		}
	})
}

func TestRemove(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		s.add(worker("kept"))
		s.run("p", "w")
		s.pass(2 * time.Second)
		if err := s.m.Remove(s.ctx, "w", false); err != nil {
			t.Fatal(err)
		}
		if err := s.m.Remove(s.ctx, "kept", true); err != nil {
			t.Fatal(err)
		}
		if s.pod("ns", "p") != nil {
			t.Error("the pod stayed")
		}
		list, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].Name != "kept" {
			t.Errorf("nodes %v, %v", list, err)
		}
		if err := s.m.Remove(s.ctx, "w", false); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("second removal: %v", err)
		}
	})
}

func TestAddRefuses(t *testing.T) {
	play(t, func(s scene) {
		s.add(worker("w"))
		for name, spec := range map[string]Spec{
			"same name":  worker("w"),
			"no name":    {InternalIP: "127.0.0.1"},
			"bad name":   {Name: "A_b", InternalIP: "127.0.0.1"},
			"no address": {Name: "x"},
		} {
			if _, err := s.m.Add(spec); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}

func TestMachineThatIsOffRegistersNothing(t *testing.T) {
	play(t, func(s scene) {
		spec := worker("w")
		spec.Off = true
		s.add(spec)
		s.pass(10 * time.Second)
		if _, err := s.client.CoreV1().Nodes().Get(s.ctx, "w", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("the node is there: %v", err)
		}
		s.change("w", Change{Up: ptr(true)})
		s.pass(2 * time.Second)
		if s.ready("w") != corev1.ConditionTrue {
			t.Error("the node is not ready")
		}
	})
}
