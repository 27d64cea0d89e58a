package image

import (
	"context"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// pods are what Kubernetes answered about the pods bound to a node.
type pods struct {
	images  []string
	asked   bool
	problem string // Why Kubernetes could not be asked; empty also if it need not be.
}

// podsOf asks Kubernetes which images the pods bound to a node need. Pods run from the cri namespace only, and a node that
// is not a Kubernetes member has none. A kubeconfig that must not be used is an error.
func podsOf(ctx context.Context, c *cmdutil.Call, n *talos.Node, namespace string) (pods, error) {
	if namespace != talos.NamespaceCRI {
		return pods{}, nil
	}

	name, err := n.KubernetesName(ctx)
	if err != nil || name == "" {
		return pods{}, err
	}

	client, err := c.Kubernetes(c.Context())
	if errs.IsUntrusted(err) {
		return pods{}, err
	}

	if err != nil {
		return pods{problem: err.Error()}, nil
	}

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// The API of another cluster would answer that no pods are bound to the node.
	_, found, err := client.Node(ctx, name)
	if err == nil && !found {
		err = fmt.Errorf("its API knows no node %s", name)
	}

	if err != nil {
		return pods{problem: err.Error()}, nil
	}

	images, err := client.PodImages(ctx, name)
	if err != nil {
		return pods{problem: err.Error()}, nil
	}

	return pods{images: images, asked: true}, nil
}
