package kubelet

import (
	"context"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// store mirrors the pods bound to nodes. It works like a shared informer with one difference: after an API server
// outage it reconnects within Retry, while an informer may wait for half a minute. The bed causes outages on purpose,
// and tests must not have to wait for its kubelets.
type store struct {
	client kubernetes.Interface
	clock  clock.WithTicker
	retry  time.Duration
	// changed is called with the node's name after one of its pods changed.
	changed func(node string)

	mu     sync.Mutex
	synced bool
	pods   map[types.UID]*corev1.Pod
}

func newStore(client kubernetes.Interface, c clock.WithTicker, retry time.Duration, changed func(string)) *store {
	return &store{client: client, clock: c, retry: retry, changed: changed, pods: map[types.UID]*corev1.Pod{}}
}

// run follows the pods until the context ends.
func (s *store) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.follow(ctx)
		pause(ctx, s.clock, s.retry)
	}
}

// follow lists once and watches until the watch ends for any reason.
func (s *store) follow(ctx context.Context) {
	const bound = "spec.nodeName!="
	listCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := s.client.CoreV1().Pods("").List(listCtx, metav1.ListOptions{FieldSelector: bound})
	if err != nil {
		return
	}
	w, err := s.client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{
		FieldSelector: bound, ResourceVersion: list.ResourceVersion,
	})
	if err != nil {
		return
	}
	defer w.Stop()
	s.replace(list.Items)
	for {
		select {
		case <-ctx.Done():
			return
		case ev, open := <-w.ResultChan():
			if !open {
				return
			}
			pod, ok := ev.Object.(*corev1.Pod)
			if !ok {
				return // an error event: the history is too old, list again
			}
			if ev.Type == watch.Deleted {
				s.drop(pod)
			} else {
				s.put(pod)
			}
		}
	}
}

func (s *store) replace(items []corev1.Pod) {
	s.mu.Lock()
	nodes := map[string]bool{}
	for _, p := range s.pods {
		nodes[p.Spec.NodeName] = true
	}
	fresh := make(map[types.UID]*corev1.Pod, len(items))
	for i := range items {
		if p := &items[i]; p.Spec.NodeName != "" {
			fresh[p.UID] = p
			nodes[p.Spec.NodeName] = true
		}
	}
	s.pods = fresh
	s.synced = true
	s.mu.Unlock()
	for n := range nodes {
		s.changed(n)
	}
}

// put stores the pod unless a newer one is known: the answer to our own write may arrive before the watch event, and
// using the older object would write again.
func (s *store) put(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		return
	}
	s.mu.Lock()
	have := s.pods[pod.UID]
	if have != nil && revision(have) > revision(pod) {
		s.mu.Unlock()
		return
	}
	s.pods[pod.UID] = pod
	s.mu.Unlock()
	s.changed(pod.Spec.NodeName)
}

func (s *store) drop(pod *corev1.Pod) {
	s.mu.Lock()
	delete(s.pods, pod.UID)
	s.mu.Unlock()
	s.changed(pod.Spec.NodeName)
}

// on returns the pods of a node; false before the first list was read. The pods must not be modified.
func (s *store) on(node string) ([]*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pods []*corev1.Pod
	for _, p := range s.pods {
		if p.Spec.NodeName == node {
			pods = append(pods, p)
		}
	}
	return pods, s.synced
}

// revision reads a resource version as a number, which it is in every API server with etcd; 0 when it is not one.
func revision(pod *corev1.Pod) uint64 {
	n, err := strconv.ParseUint(pod.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// pause waits for d or the end of the context.
func pause(ctx context.Context, c clock.WithTicker, d time.Duration) {
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C():
	}
}
