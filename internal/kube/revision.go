package kube

import (
	"context"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Revision is etcd's present revision, which Kubernetes gives as the version of a list.
func (c *Client) Revision(ctx context.Context) (int64, error) {
	list, err := c.API.CoreV1().Namespaces().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("cannot read the revision of Kubernetes: %w", err)
	}

	return strconv.ParseInt(list.ResourceVersion, 10, 64)
}
