package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Workload is one of kube-system's Deployments or DaemonSets.
type Workload struct {
	Kind    string // Deployment or DaemonSet.
	Name    string
	Desired int32 // Pods wanted.
	Ready   int32 // Pods ready.
}

// Workloads lists kube-system's Deployments and DaemonSets: DNS, proxy, CNI.
func (c *Client) Workloads(ctx context.Context) ([]Workload, error) {
	const namespace = "kube-system"

	out := []Workload{}

	deployments, err := c.API.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list the deployments of %s: %w", namespace, causeOf(err))
	}

	for i := range deployments.Items {
		d := &deployments.Items[i]

		desired := int32(1)
		if d.Spec.Replicas != nil {
			desired = *d.Spec.Replicas
		}

		out = append(out, Workload{Kind: "Deployment", Name: d.Name, Desired: desired, Ready: d.Status.ReadyReplicas})
	}

	sets, err := c.API.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list the daemon sets of %s: %w", namespace, causeOf(err))
	}

	for i := range sets.Items {
		d := &sets.Items[i]
		out = append(out, Workload{Kind: "DaemonSet", Name: d.Name, Desired: d.Status.DesiredNumberScheduled, Ready: d.Status.NumberReady})
	}

	return out, nil
}
