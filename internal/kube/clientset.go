package kube

import (
	"errors"
	"fmt"

	"k8s.io/client-go/discovery"
	appsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	policyv1 "k8s.io/client-go/kubernetes/typed/policy/v1"
	policyv1beta1 "k8s.io/client-go/kubernetes/typed/policy/v1beta1"
	storagev1 "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// clientset has the API groups that this package and kubectl's drain use. kubernetes.Clientset has some fifty more,
// whose clients the linker then keeps in the program.
type clientset struct {
	otherGroups

	discovery     *discovery.DiscoveryClient
	apps          *appsv1.AppsV1Client
	coordination  *coordinationv1.CoordinationV1Client
	core          *corev1.CoreV1Client
	policy        *policyv1.PolicyV1Client
	policyv1beta1 *policyv1beta1.PolicyV1beta1Client
	storage       *storagev1.StorageV1Client
}

// newClientset makes the clients. They share one HTTP client, and with it connections and the rate limit.
func newClientset(cfg *rest.Config) (*clientset, error) {
	shared := *cfg
	shared.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(shared.QPS, shared.Burst)

	client, err := rest.HTTPClientFor(&shared)
	if err != nil {
		return nil, fmt.Errorf("cannot make an HTTP client: %w", err)
	}

	var (
		out  clientset
		errs [7]error
	)

	out.discovery, errs[0] = discovery.NewDiscoveryClientForConfigAndClient(&shared, client)
	out.apps, errs[1] = appsv1.NewForConfigAndClient(&shared, client)
	out.coordination, errs[2] = coordinationv1.NewForConfigAndClient(&shared, client)
	out.core, errs[3] = corev1.NewForConfigAndClient(&shared, client)
	out.policy, errs[4] = policyv1.NewForConfigAndClient(&shared, client)
	out.policyv1beta1, errs[5] = policyv1beta1.NewForConfigAndClient(&shared, client)
	out.storage, errs[6] = storagev1.NewForConfigAndClient(&shared, client)

	return &out, errors.Join(errs[:]...)
}

// Discovery implements kubernetes.Interface.
func (c *clientset) Discovery() discovery.DiscoveryInterface { return c.discovery }

// AppsV1 implements kubernetes.Interface.
func (c *clientset) AppsV1() appsv1.AppsV1Interface { return c.apps }

// CoordinationV1 implements kubernetes.Interface.
func (c *clientset) CoordinationV1() coordinationv1.CoordinationV1Interface { return c.coordination }

// CoreV1 implements kubernetes.Interface.
func (c *clientset) CoreV1() corev1.CoreV1Interface { return c.core }

// PolicyV1 implements kubernetes.Interface.
func (c *clientset) PolicyV1() policyv1.PolicyV1Interface { return c.policy }

// PolicyV1beta1 implements kubernetes.Interface.
func (c *clientset) PolicyV1beta1() policyv1beta1.PolicyV1beta1Interface { return c.policyv1beta1 }

// StorageV1 implements kubernetes.Interface.
func (c *clientset) StorageV1() storagev1.StorageV1Interface { return c.storage }
