package kubelet

import (
	"errors"
	"fmt"
	"net"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Spec is a machine as the caller describes it: what Talos and the kubelet on it would report.
type Spec struct {
	// Name is the node's name in Kubernetes.
	Name string `json:"name"`
	// InternalIP is the address shown in the node's status. Nothing listens on it.
	InternalIP string `json:"internal_ip"`
	// ControlPlane gives the node the control plane's label, taint and mirror pods.
	ControlPlane bool `json:"control_plane,omitempty"`
	// TalosVersion, such as v1.13.8, makes the OS image "Talos (v1.13.8)".
	TalosVersion string `json:"talos_version,omitempty"`
	// KubeletVersion defaults to that of the API server.
	KubeletVersion string `json:"kubelet_version,omitempty"`
	// KernelVersion defaults to a Talos-like one.
	KernelVersion string `json:"kernel_version,omitempty"`
	// BootID changes with every boot; one is made up when it is empty.
	BootID string `json:"boot_id,omitempty"`
	// Labels and Annotations are put on the Node object in addition to the usual ones.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Taints replace the default ones (that of the control plane) when not null.
	Taints *[]Taint `json:"taints,omitempty"`
	// Off registers nothing until the machine is first powered on.
	Off bool `json:"off,omitempty"`
}

// Taint is a taint that a node registers with.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Validate returns an error if the spec is invalid.
func (s Spec) Validate() error {
	if msgs := validation.IsDNS1123Subdomain(s.Name); len(msgs) > 0 {
		return fmt.Errorf("node name %q: %s", s.Name, msgs[0])
	}
	if net.ParseIP(s.InternalIP) == nil {
		return fmt.Errorf("node %s: internal_ip %q is not an IP address", s.Name, s.InternalIP)
	}
	return nil
}

// Change is a change of a machine. A nil field stays as it is.
type Change struct {
	// Up is the machine's power. While it is off, nothing is written for the node: neither its lease nor the state of
	// its pods.
	Up *bool `json:"up,omitempty"`
	// BootID distinguishes a reboot from a network outage: the pods of a node that comes back with another boot ID
	// start again, otherwise they kept running. Without Up on a running machine it is an instant reboot. When the
	// machine is powered on without one, a new one is made up.
	BootID *string `json:"boot_id,omitempty"`
	// Version is Talos's.
	Version *string `json:"version,omitempty"`
	// KubeletVersion is the kubelet's.
	KubeletVersion *string `json:"kubelet_version,omitempty"`
	// Ready false makes a running kubelet report that it is not ready.
	Ready *bool `json:"ready,omitempty"`
}

// State is the present state of a machine. It is the bed's view: the API server learns of it as soon as it answers.
type State struct {
	Name           string `json:"name"`
	InternalIP     string `json:"internal_ip"`
	ControlPlane   bool   `json:"control_plane"`
	Up             bool   `json:"up"`
	Ready          bool   `json:"ready"`
	BootID         string `json:"boot_id"`
	Version        string `json:"version"`
	KubeletVersion string `json:"kubelet_version"`
	// Pods counts the pods bound to the node, mirror pods included.
	Pods int `json:"pods"`
}

// Timing holds the durations on the machines.
type Timing struct {
	// Heartbeat is the time between two renewals of a node's lease.
	Heartbeat time.Duration
	// Boot is the time from the kubelet's start to its being ready.
	Boot time.Duration
	// PodStart is the time from a pod's binding to its being ready.
	PodStart time.Duration
	// PodStop is how long a pod takes to shut down by default.
	PodStop time.Duration
	// Retry is the pause after a failed request.
	Retry time.Duration
}

// DefaultTiming is short, yet long enough that a watcher sees every state.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat: time.Second,
		Boot:      500 * time.Millisecond,
		PodStart:  300 * time.Millisecond,
		PodStop:   200 * time.Millisecond,
		Retry:     250 * time.Millisecond,
	}
}

// Annotations that set the behaviour of a pod. Numbers are seconds and may have a fraction.
const (
	// AnnotationStart is how long the pod takes to become ready.
	AnnotationStart = "lab.talosmate.dev/start-seconds"
	// AnnotationShutdown is how long the pod takes to shut down. It is killed
	// when its grace period is over.
	AnnotationShutdown = "lab.talosmate.dev/shutdown-seconds"
	// AnnotationRun is how long the pod runs before it succeeds. It applies to pods that are not always restarted.
	AnnotationRun = "lab.talosmate.dev/run-seconds"
	// AnnotationReady "false" keeps the pod from being ready; it may be changed
	// while the pod runs.
	AnnotationReady = "lab.talosmate.dev/ready"
)

var (
	// ErrUnknownNode is returned for a name that is not a machine's.
	ErrUnknownNode = errors.New("no such node")
	// ErrNodeExists is returned when a machine of that name exists already.
	ErrNodeExists = errors.New("node exists")
)
