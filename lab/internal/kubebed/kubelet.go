package kubebed

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/talosmate/talosmate/lab/internal/machine"
)

// cordonedAnnotation marks the cordons that Talos made itself, and removes.
const (
	cordonedAnnotation = "talos.dev/cordoned"
	cordonedValue      = "true"
)

// mirrorEvery is the interval at which the nodes' state in Kubernetes is read.
const mirrorEvery = 200 * time.Millisecond

// Kubelet is machine.Kubelet on top of a bed.
type Kubelet struct {
	bed  *Bed
	note func(node, event, detail string)

	mu      sync.Mutex
	running map[string]*machine.Node // by Kubernetes name, while the node is up
	last    map[string]string
	lift    map[string]bool // Talos's own cordon is to be removed once Ready
	stop    context.CancelFunc

	wanted  *apiServer         // what the API server is to run with
	broken  context.CancelFunc // ends the start of an API server that is not wanted any more
	changed chan struct{}
}

// apiServer is what a node rendered for the API server.
type apiServer struct {
	node     *machine.Node
	settings machine.APIServer
}

// NewKubelet starts to mirror the bed's nodes into the machines.
func NewKubelet(bed *Bed, note func(node, event, detail string)) *Kubelet {
	ctx, stop := context.WithCancel(context.Background())
	k := &Kubelet{
		bed: bed, note: note, running: map[string]*machine.Node{}, last: map[string]string{}, lift: map[string]bool{}, stop: stop,
		changed: make(chan struct{}, 1),
	}

	go k.mirror(ctx)
	go k.runAPIServers(ctx)

	return k
}

// Close ends the mirroring.
func (k *Kubelet) Close() { k.stop() }

// RunAPIServer implements machine.Kubelet. A start that is under way is given up.
func (k *Kubelet) RunAPIServer(n *machine.Node, s machine.APIServer) {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.wanted = (&apiServer{n, s}); k.broken != nil {
		k.broken()
	}

	k.note(n.Name, "apiserver-starts", "")

	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// runAPIServers starts the API server with what was rendered last.
func (k *Kubelet) runAPIServers(ctx context.Context) {
	var runs *apiServer

	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		}

		k.mu.Lock()
		s := k.wanted
		starting, cancel := context.WithCancel(ctx)
		k.broken = cancel
		k.mu.Unlock()

		if s == runs {
			cancel()

			continue
		}

		err := k.start(starting, s.settings)
		if !k.started(starting, s, err) {
			cancel()

			continue
		}

		cancel()

		runs = s
		s.node.APIServerExits(err != nil)
	}
}

// started notes how the start of an API server ended, and returns false if another start was asked for meanwhile. No
// start can be noted between the two.
func (k *Kubelet) started(starting context.Context, s *apiServer, err error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	switch {
	case starting.Err() != nil:
		return false
	case err != nil:
		k.note(s.node.Name, "apiserver-exits", err.Error())
	default:
		k.note(s.node.Name, "apiserver-ready", "")
	}

	return true
}

// start starts the API server, once nothing else starts or stops it.
func (k *Kubelet) start(ctx context.Context, s machine.APIServer) error {
	ticker := time.NewTicker(mirrorEvery)
	defer ticker.Stop()

	for {
		_, err := k.bed.tell(ctx, http.MethodPut, "/apiserver", s)
		if !errors.Is(err, errConflict) {
			return err
		}

		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Start implements machine.Kubelet.
func (k *Kubelet) Start(n *machine.Node) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	name := n.Hostname()

	k.mu.Lock()
	k.running[name] = n
	k.lift[name] = true
	delete(k.last, name)
	k.mu.Unlock()

	state := map[string]any{"up": true, "boot_id": n.BootID(), "version": n.Version()}

	_, err := k.bed.tell(ctx, http.MethodPost, "/nodes/"+url.PathEscape(name), state)
	if errors.Is(err, errNoMachine) {
		_, err = k.bed.tell(ctx, http.MethodPut, "/nodes/"+url.PathEscape(name), map[string]any{
			"name": name, "internal_ip": n.Address.String(), "control_plane": n.IsControlPlane(), "talos_version": n.Version(), "boot_id": n.BootID(),
		})
	}

	if err != nil {
		k.note(n.Name, "error", "kubelet: "+err.Error())
	}

	// The static pods of the control plane are rendered with the node's resources, which are made at the first use.
	if _, err = n.State(ctx); err != nil {
		k.note(n.Name, "error", "kubelet: "+err.Error())
	}
}

// Stop implements machine.Kubelet. It does not wait for the bed.
func (k *Kubelet) Stop(n *machine.Node) {
	k.mu.Lock()

	var name string

	for kubernetesName, node := range k.running {
		if node == n {
			name = kubernetesName
		}
	}

	delete(k.running, name)
	k.mu.Unlock()

	if name == "" {
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	if _, err := k.bed.tell(ctx, http.MethodPost, "/nodes/"+url.PathEscape(name), map[string]any{"up": false}); err != nil {
		k.note(n.Name, "error", "kubelet: "+err.Error())
	}
}

// kubeNode is the part of a Node object that is read here.
type kubeNode struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable bool `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		NodeInfo struct {
			BootID string `json:"bootID"`
		} `json:"nodeInfo"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

func (n kubeNode) state() machine.NodeStatus {
	s := machine.NodeStatus{Unschedulable: n.Spec.Unschedulable, Labels: n.Metadata.Labels, Annotations: n.Metadata.Annotations}

	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			s.Ready = c.Status == "True"
		}
	}

	return s
}

// mirror passes the state of each machine in Kubernetes to it.
func (k *Kubelet) mirror(ctx context.Context) {
	ticker := time.NewTicker(mirrorEvery)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}

		var list struct {
			Items []kubeNode `json:"items"`
		}
		if err := k.bed.api.do(ctx, http.MethodGet, "/api/v1/nodes", "", nil, &list); err != nil {
			continue
		}

		for _, item := range list.Items {
			k.tellMachine(ctx, item)
		}
	}
}

func (k *Kubelet) tellMachine(ctx context.Context, item kubeNode) {
	name := item.Metadata.Name

	k.mu.Lock()
	n := k.running[name]
	changed := k.last[name] != item.Metadata.ResourceVersion
	k.last[name] = item.Metadata.ResourceVersion
	lift := k.lift[name]
	k.mu.Unlock()

	// the state from before this boot is ignored
	if n == nil || item.Status.NodeInfo.BootID != n.BootID() {
		return
	}

	state := item.state()

	if lift && state.Ready {
		k.mu.Lock()
		k.lift[name] = false
		k.mu.Unlock()

		if state.Annotations[cordonedAnnotation] == cordonedValue {
			if err := k.Uncordon(ctx, n); err != nil {
				k.note(n.Name, "error", "uncordon: "+err.Error())
			}
		}
	}

	if changed {
		n.KubernetesStatus(state)
	}
}

func (k *Kubelet) get(ctx context.Context, n *machine.Node) (kubeNode, error) {
	var node kubeNode

	err := k.bed.api.do(ctx, http.MethodGet, "/api/v1/nodes/"+url.PathEscape(n.Hostname()), "", nil, &node)

	return node, err
}

const mergePatch = "application/merge-patch+json"

// Cordon implements machine.Kubelet: a node that was schedulable is cordoned and marked.
func (k *Kubelet) Cordon(ctx context.Context, n *machine.Node) (bool, error) {
	node, err := k.get(ctx, n)
	if err != nil {
		return false, err
	}

	if node.Spec.Unschedulable {
		return false, nil
	}

	return true, k.bed.api.do(ctx, http.MethodPatch, "/api/v1/nodes/"+url.PathEscape(n.Hostname()), mergePatch, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{cordonedAnnotation: cordonedValue}},
		"spec":     map[string]any{"unschedulable": true},
	}, nil)
}

// Uncordon implements machine.Kubelet.
func (k *Kubelet) Uncordon(ctx context.Context, n *machine.Node) error {
	return k.bed.api.do(ctx, http.MethodPatch, "/api/v1/nodes/"+url.PathEscape(n.Hostname()), mergePatch, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{cordonedAnnotation: nil}},
		"spec":     map[string]any{"unschedulable": nil},
	}, nil)
}

// Status implements machine.Kubelet.
func (k *Kubelet) Status(ctx context.Context, n *machine.Node) (machine.NodeStatus, bool) {
	node, err := k.get(ctx, n)
	if err != nil {
		return machine.NodeStatus{}, false
	}

	return node.state(), true
}

// kubePod is the part of a Pod object that is read here.
type kubePod struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		Annotations     map[string]string `json:"annotations"`
		OwnerReferences []struct {
			Kind string `json:"kind"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

func (p kubePod) stays() bool {
	if _, mirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]; mirror {
		return true
	}

	for _, o := range p.Metadata.OwnerReferences {
		if o.Kind == "DaemonSet" {
			return true
		}
	}

	return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
}

func (k *Kubelet) pods(ctx context.Context, n *machine.Node) ([]kubePod, error) {
	var list struct {
		Items []kubePod `json:"items"`
	}

	err := k.bed.api.do(ctx, http.MethodGet, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+n.Hostname()), "", nil, &list)

	return list.Items, err
}

// Drain implements machine.Kubelet: it evicts until no pod is left that has to leave.
func (k *Kubelet) Drain(ctx context.Context, n *machine.Node) error {
	for {
		pods, err := k.pods(ctx, n)
		if err != nil {
			return err
		}

		left := 0

		for _, p := range pods {
			if p.stays() {
				continue
			}

			left++

			err := k.bed.api.do(ctx, http.MethodPost, "/api/v1/namespaces/"+p.Metadata.Namespace+"/pods/"+p.Metadata.Name+"/eviction", "application/json", map[string]any{
				"apiVersion": "policy/v1", "kind": "Eviction",
				"metadata": map[string]any{"name": p.Metadata.Name, "namespace": p.Metadata.Namespace},
			}, nil)

			var refused statusError
			if err != nil && (!errors.As(err, &refused) || refused.code != http.StatusTooManyRequests && refused.code != http.StatusNotFound) {
				return err
			}
		}

		if left == 0 {
			return nil
		}

		select {
		case <-time.After(k.bed.api.evictionRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
