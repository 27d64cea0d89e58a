package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SetSchedulable cordons or uncordons a node as kubectl does, without our mark, so that no operation takes the cordon
// for its own. changed is false when the node already was in this state.
func (c *Client) SetSchedulable(ctx context.Context, name string, schedulable bool) (changed bool, err error) {
	n, found, err := c.Node(ctx, name)
	if err != nil {
		return false, err
	}

	if !found {
		return false, fmt.Errorf("kubernetes has no node %q", name)
	}

	if n.Unschedulable != schedulable {
		return false, nil
	}

	spec := map[string]any{"unschedulable": true}
	if schedulable {
		spec["unschedulable"] = nil
	}

	return true, c.patchNode(ctx, name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{CordonAnnotation: nil}}, "spec": spec,
	})
}

// DeleteNode deletes a node from Kubernetes; a node that does not exist is not an error.
func (c *Client) DeleteNode(ctx context.Context, name string) error {
	if err := c.API.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot delete Kubernetes node %s: %w", name, causeOf(afterSending(err)))
	}

	return nil
}
