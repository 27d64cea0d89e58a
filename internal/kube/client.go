// Package kube is the adapter to Kubernetes: credentials, node state, cordon and drain. It returns plain types, so that
// operations can be tested without a cluster.
package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// Access lists the sources of credentials, in the order of the fields.
type Access struct {
	Kubeconfig string // --kubeconfig; no other source is tried when it is given.
	Context    string // --kube-context.
	// Admin fetches the admin kubeconfig from the Talos API; it is kept in memory only.
	Admin func(context.Context) (Admin, error)
	// Expect are node addresses. The user's own current kubeconfig is used only if one of them is a node's internal
	// address.
	Expect []string
}

// Sources of credentials, as documents name them.
const (
	SourceFlag    = "kubeconfig"
	SourceTalos   = "talos"
	SourceCurrent = "current-kubeconfig"
)

// Client is access to one cluster's Kubernetes API.
type Client struct {
	API    kubernetes.Interface
	Source string // Which credentials were used.

	// Begin is called before each request that may change something; if it fails, the request is not sent. It may be
	// nil.
	Begin func() error

	unanswered atomic.Int64 // Requests that the API server did not answer, or answered with a server error.
}

// ErrNoCredentials is returned by Connect when no source has credentials for this cluster.
var ErrNoCredentials = errors.New("no Kubernetes credentials for this cluster")

// Connect finds credentials and makes a client. It dials only to check whether the user's own kubeconfig is for the
// right cluster.
func Connect(ctx context.Context, a Access) (*Client, error) {
	if a.Kubeconfig != "" || a.Context != "" {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = a.Kubeconfig

		return fromRules(rules, a.Context, SourceFlag)
	}

	var adminErr error

	if a.Admin != nil {
		admin, err := a.Admin(ctx)
		if err == nil {
			return fromRest(admin.rest(), SourceTalos)
		}

		if errs.IsUntrusted(err) {
			return nil, err
		}

		adminErr = err
	}

	c, err := fromRules(clientcmd.NewDefaultClientConfigLoadingRules(), "", SourceCurrent)
	if err != nil {
		return nil, noCredentials(adminErr)
	}

	same, err := c.knowsAny(ctx, a.Expect)
	if err != nil || !same {
		return nil, noCredentials(adminErr, err)
	}

	return c, nil
}

// noCredentials states on one line why each source failed.
func noCredentials(causes ...error) error {
	err := ErrNoCredentials

	for _, cause := range causes {
		if cause != nil {
			err = fmt.Errorf("%w; %w", err, cause)
		}
	}

	return err
}

func fromRules(rules *clientcmd.ClientConfigLoadingRules, name, source string) (*Client, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, errs.Usagef("cannot use the kubeconfig: %w", err)
	}

	return fromRest(cfg, source)
}

func fromRest(cfg *rest.Config, source string) (*Client, error) {
	cfg.QPS, cfg.Burst = 50, 100
	cfg.UserAgent = "talosmate"
	cfg.Timeout = 30 * time.Second
	cfg.WarningHandler = rest.NoWarnings{}

	c := &Client{Source: source}

	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &answerCounter{next, &c.unanswered} })
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &announcer{next, c} })

	var err error
	if c.API, err = newClientset(cfg); err != nil {
		return nil, fmt.Errorf("cannot make a Kubernetes client: %w", err)
	}

	return c, nil
}

func (c *Client) knowsAny(ctx context.Context, addresses []string) (bool, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return false, err
	}

	for _, n := range nodes {
		for _, a := range n.Addresses {
			if slices.Contains(addresses, a) {
				return true, nil
			}
		}
	}

	return false, nil
}

// Node is a Kubernetes node, reduced to what operations need.
type Node struct {
	Name           string            // The Kubernetes node name.
	Ready          bool              // The Ready condition is true.
	ReadyMessage   string            // Why it is not ready, as the kubelet reports it.
	Silent         bool              // The kubelet stopped reporting: Ready is Unknown.
	Unschedulable  bool              // Cordoned, by anybody.
	Addresses      []string          // Internal addresses.
	Annotations    map[string]string // All annotations.
	KubeletVersion string            // The kubelet's version.
	BootID         string            // As the kubelet reports it.
	ControlPlane   bool              // Has the control plane role label.
}

// Nodes lists all nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	list, err := c.API.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list Kubernetes nodes: %w", causeOf(err))
	}

	out := make([]Node, len(list.Items))
	for i := range list.Items {
		out[i] = nodeOf(&list.Items[i])
	}

	return out, nil
}

// Node reads one node; found is false when it does not exist.
func (c *Client) Node(ctx context.Context, name string) (n Node, found bool, err error) {
	raw, err := c.API.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Node{}, false, nil
	}

	if err != nil {
		return Node{}, false, fmt.Errorf("cannot read Kubernetes node %s: %w", name, causeOf(err))
	}

	return nodeOf(raw), true, nil
}

func nodeOf(raw *corev1.Node) Node {
	n := Node{
		Name: raw.Name, Unschedulable: raw.Spec.Unschedulable, Annotations: raw.Annotations,
		KubeletVersion: raw.Status.NodeInfo.KubeletVersion, BootID: raw.Status.NodeInfo.BootID,
	}

	_, n.ControlPlane = raw.Labels["node-role.kubernetes.io/control-plane"]

	for _, cond := range raw.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			n.Ready, n.Silent = cond.Status == corev1.ConditionTrue, cond.Status == corev1.ConditionUnknown
			n.ReadyMessage = cond.Message
		}
	}

	for _, a := range raw.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			n.Addresses = append(n.Addresses, a.Address)
		}
	}

	return n
}

// PodImages lists the images of all pods bound to a node, whatever their phase: those of containers, init containers and
// ephemeral containers, and those that volumes mount.
func (c *Client) PodImages(ctx context.Context, node string) ([]string, error) {
	pods, err := c.API.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", node, causeOf(err))
	}

	out := []string{}

	for i := range pods.Items {
		spec := &pods.Items[i].Spec
		if spec.NodeName != node {
			continue
		}

		containers := slices.Concat(spec.InitContainers, spec.Containers)
		out = append(out, lists.Map(containers, func(c corev1.Container) string { return c.Image })...)
		out = append(out, lists.Map(spec.EphemeralContainers, func(c corev1.EphemeralContainer) string { return c.Image })...)

		for _, v := range spec.Volumes {
			if v.Image != nil && v.Image.Reference != "" {
				out = append(out, v.Image.Reference)
			}
		}
	}

	return out, nil
}
