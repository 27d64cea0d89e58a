package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/talosmate/talosmate/internal/lists"
)

// maxReported bounds the objects of a kind in a report.
const maxReported = 5000

// NodeReport is a Kubernetes node as its API describes it.
type NodeReport struct {
	Name             string      `json:"name"`              // The name of the Kubernetes node.
	Addresses        []string    `json:"addresses"`         // Its internal addresses.
	ControlPlane     bool        `json:"control_plane"`     // Whether it has the control plane role.
	Schedulable      bool        `json:"schedulable"`       // Whether new pods may run there.
	KubeletVersion   string      `json:"kubelet_version"`   // The kubelet's version.
	ContainerRuntime string      `json:"container_runtime"` // The runtime and its version.
	Kernel           string      `json:"kernel"`            // The kernel's version.
	OS               string      `json:"os"`                // The operating system.
	BootID           string      `json:"boot_id"`           // The boot, as the kubelet reports it.
	Taints           []string    `json:"taints"`            // Its taints, KEY=VALUE:EFFECT.
	Conditions       []Condition `json:"conditions"`        // Its conditions.
}

// Condition is a condition of a node or a pod.
type Condition struct {
	Type    string    `json:"type"`    // Ready, DiskPressure, …
	Status  string    `json:"status"`  // true, false or unknown.
	Reason  string    `json:"reason"`  // Why, as one word.
	Message string    `json:"message"` // Why, for people.
	Since   time.Time `json:"since"`   // Since when.
}

// PodReport is a pod. What containers are started with is not in it: variables and arguments often hold secrets.
type PodReport struct {
	Namespace  string            `json:"namespace"`  // Its namespace.
	Name       string            `json:"name"`       // Its name.
	NodeName   string            `json:"node_name"`  // The Kubernetes node that it is bound to, empty for none.
	Phase      string            `json:"phase"`      // pending, running, succeeded, failed or unknown.
	Reason     string            `json:"reason"`     // Why it is in this phase, where known.
	Message    string            `json:"message"`    // The same for people.
	Created    time.Time         `json:"created"`    // When it was created.
	Deleting   bool              `json:"deleting"`   // Whether it is being deleted.
	Conditions []Condition       `json:"conditions"` // Its conditions.
	Containers []ContainerReport `json:"containers"` // Its containers, those that initialize it first.
}

// ContainerReport is the state of a container of a pod.
type ContainerReport struct {
	Name         string `json:"name"`           // Its name.
	Image        string `json:"image"`          // Its image.
	Ready        bool   `json:"ready"`          // Whether it is ready.
	Restarts     int32  `json:"restarts"`       // How often it was restarted.
	State        string `json:"state"`          // waiting, running or terminated.
	Reason       string `json:"reason"`         // Why it waits or ended.
	Message      string `json:"message"`        // The same for people.
	ExitCode     int32  `json:"exit_code"`      // How it ended, if it ended.
	LastReason   string `json:"last_reason"`    // Why it ended the time before.
	LastExitCode int32  `json:"last_exit_code"` // How it ended the time before.
}

// EventReport is an event of Kubernetes.
type EventReport struct {
	Time      time.Time `json:"time"`      // When it happened last.
	Type      string    `json:"type"`      // normal or warning.
	Reason    string    `json:"reason"`    // What happened, as one word.
	Namespace string    `json:"namespace"` // The namespace of the object.
	Object    string    `json:"object"`    // What it happened to, KIND/NAME.
	Message   string    `json:"message"`   // What happened, for people.
	Count     int32     `json:"count"`     // How often.
	Source    string    `json:"source"`    // Who reported it.
}

// NodeReports describes all nodes, sorted by name.
func (c *Client) NodeReports(ctx context.Context) ([]NodeReport, error) {
	list, err := c.API.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: maxReported})
	if err != nil {
		return nil, fmt.Errorf("cannot list Kubernetes nodes: %w", err)
	}

	return lists.Map(list.Items, nodeReport), nil
}

func nodeReport(raw corev1.Node) NodeReport {
	n, info := nodeOf(&raw), raw.Status.NodeInfo
	out := NodeReport{
		Name: n.Name, Addresses: append([]string{}, n.Addresses...), ControlPlane: n.ControlPlane, Schedulable: !n.Unschedulable,
		KubeletVersion: n.KubeletVersion, ContainerRuntime: info.ContainerRuntimeVersion, Kernel: info.KernelVersion, OS: info.OSImage,
		BootID: n.BootID, Taints: lists.Map(raw.Spec.Taints, func(t corev1.Taint) string { return t.ToString() }), Conditions: []Condition{},
	}

	for _, cond := range raw.Status.Conditions {
		out.Conditions = append(out.Conditions, Condition{
			string(cond.Type), lower(cond.Status), cond.Reason, cond.Message, cond.LastTransitionTime.UTC(),
		})
	}

	return out
}

// PodReports describes the pods of all namespaces.
func (c *Client) PodReports(ctx context.Context) ([]PodReport, error) {
	list, err := c.API.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: maxReported})
	if err != nil {
		return nil, fmt.Errorf("cannot list pods: %w", err)
	}

	return lists.Map(list.Items, podReport), nil
}

func podReport(raw corev1.Pod) PodReport {
	out := PodReport{
		Namespace: raw.Namespace, Name: raw.Name, NodeName: raw.Spec.NodeName, Phase: lower(raw.Status.Phase), Reason: raw.Status.Reason,
		Message: raw.Status.Message, Created: raw.CreationTimestamp.UTC(), Deleting: raw.DeletionTimestamp != nil,
		Conditions: []Condition{}, Containers: []ContainerReport{},
	}

	for _, cond := range raw.Status.Conditions {
		out.Conditions = append(out.Conditions, Condition{
			string(cond.Type), lower(cond.Status), cond.Reason, cond.Message, cond.LastTransitionTime.UTC(),
		})
	}

	for _, s := range slices.Concat(raw.Status.InitContainerStatuses, raw.Status.ContainerStatuses) {
		out.Containers = append(out.Containers, containerReport(s))
	}

	return out
}

func containerReport(s corev1.ContainerStatus) ContainerReport {
	out := ContainerReport{Name: s.Name, Image: s.Image, Ready: s.Ready, Restarts: s.RestartCount}

	switch state := s.State; {
	case state.Waiting != nil:
		out.State, out.Reason, out.Message = "waiting", state.Waiting.Reason, state.Waiting.Message
	case state.Terminated != nil:
		out.State, out.Reason, out.Message = "terminated", state.Terminated.Reason, state.Terminated.Message
		out.ExitCode = state.Terminated.ExitCode
	case state.Running != nil:
		out.State = "running"
	}

	if last := s.LastTerminationState.Terminated; last != nil {
		out.LastReason, out.LastExitCode = last.Reason, last.ExitCode
	}

	return out
}

// EventReports describes the events of all namespaces, sorted by time.
func (c *Client) EventReports(ctx context.Context) ([]EventReport, error) {
	list, err := c.API.CoreV1().Events("").List(ctx, metav1.ListOptions{Limit: maxReported})
	if err != nil {
		return nil, fmt.Errorf("cannot list Kubernetes events: %w", err)
	}

	out := lists.Map(list.Items, eventReport)
	lists.Sort(out, func(a, b EventReport) int { return a.Time.Compare(b.Time) })

	return out, nil
}

func eventReport(raw corev1.Event) EventReport {
	at := raw.EventTime.Time
	for _, other := range []time.Time{raw.LastTimestamp.Time, raw.FirstTimestamp.Time, raw.CreationTimestamp.Time} {
		if at.IsZero() {
			at = other
		}
	}

	return EventReport{
		Time: at.UTC(), Type: lower(raw.Type), Reason: raw.Reason, Namespace: raw.InvolvedObject.Namespace,
		Object: raw.InvolvedObject.Kind + "/" + raw.InvolvedObject.Name, Message: raw.Message, Count: max(1, raw.Count),
		Source: cmp.Or(raw.Source.Component, raw.ReportingController),
	}
}

func lower[T ~string](word T) string { return strings.ToLower(string(word)) }
