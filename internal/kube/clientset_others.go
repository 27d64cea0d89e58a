package kube

import (
	admissionregistrationv1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1alpha1"
	admissionregistrationv1beta1 "k8s.io/client-go/kubernetes/typed/admissionregistration/v1beta1"
	internalv1alpha1 "k8s.io/client-go/kubernetes/typed/apiserverinternal/v1alpha1"
	appsv1beta1 "k8s.io/client-go/kubernetes/typed/apps/v1beta1"
	appsv1beta2 "k8s.io/client-go/kubernetes/typed/apps/v1beta2"
	authenticationv1 "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authenticationv1alpha1 "k8s.io/client-go/kubernetes/typed/authentication/v1alpha1"
	authenticationv1beta1 "k8s.io/client-go/kubernetes/typed/authentication/v1beta1"
	authorizationv1 "k8s.io/client-go/kubernetes/typed/authorization/v1"
	authorizationv1beta1 "k8s.io/client-go/kubernetes/typed/authorization/v1beta1"
	autoscalingv1 "k8s.io/client-go/kubernetes/typed/autoscaling/v1"
	autoscalingv2 "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	batchv1 "k8s.io/client-go/kubernetes/typed/batch/v1"
	batchv1beta1 "k8s.io/client-go/kubernetes/typed/batch/v1beta1"
	certificatesv1 "k8s.io/client-go/kubernetes/typed/certificates/v1"
	certificatesv1alpha1 "k8s.io/client-go/kubernetes/typed/certificates/v1alpha1"
	certificatesv1beta1 "k8s.io/client-go/kubernetes/typed/certificates/v1beta1"
	coordinationv1alpha2 "k8s.io/client-go/kubernetes/typed/coordination/v1alpha2"
	coordinationv1beta1 "k8s.io/client-go/kubernetes/typed/coordination/v1beta1"
	discoveryv1 "k8s.io/client-go/kubernetes/typed/discovery/v1"
	discoveryv1beta1 "k8s.io/client-go/kubernetes/typed/discovery/v1beta1"
	eventsv1 "k8s.io/client-go/kubernetes/typed/events/v1"
	eventsv1beta1 "k8s.io/client-go/kubernetes/typed/events/v1beta1"
	extensionsv1beta1 "k8s.io/client-go/kubernetes/typed/extensions/v1beta1"
	flowcontrolv1 "k8s.io/client-go/kubernetes/typed/flowcontrol/v1"
	flowcontrolv1beta1 "k8s.io/client-go/kubernetes/typed/flowcontrol/v1beta1"
	flowcontrolv1beta2 "k8s.io/client-go/kubernetes/typed/flowcontrol/v1beta2"
	flowcontrolv1beta3 "k8s.io/client-go/kubernetes/typed/flowcontrol/v1beta3"
	networkingv1 "k8s.io/client-go/kubernetes/typed/networking/v1"
	networkingv1beta1 "k8s.io/client-go/kubernetes/typed/networking/v1beta1"
	nodev1 "k8s.io/client-go/kubernetes/typed/node/v1"
	nodev1alpha1 "k8s.io/client-go/kubernetes/typed/node/v1alpha1"
	nodev1beta1 "k8s.io/client-go/kubernetes/typed/node/v1beta1"
	rbacv1 "k8s.io/client-go/kubernetes/typed/rbac/v1"
	rbacv1alpha1 "k8s.io/client-go/kubernetes/typed/rbac/v1alpha1"
	rbacv1beta1 "k8s.io/client-go/kubernetes/typed/rbac/v1beta1"
	resourcev1 "k8s.io/client-go/kubernetes/typed/resource/v1"
	resourcev1alpha3 "k8s.io/client-go/kubernetes/typed/resource/v1alpha3"
	resourcev1beta1 "k8s.io/client-go/kubernetes/typed/resource/v1beta1"
	resourcev1beta2 "k8s.io/client-go/kubernetes/typed/resource/v1beta2"
	schedulingv1 "k8s.io/client-go/kubernetes/typed/scheduling/v1"
	schedulingv1alpha2 "k8s.io/client-go/kubernetes/typed/scheduling/v1alpha2"
	schedulingv1beta1 "k8s.io/client-go/kubernetes/typed/scheduling/v1beta1"
	storagev1 "k8s.io/client-go/kubernetes/typed/storage/v1"
	storagev1alpha1 "k8s.io/client-go/kubernetes/typed/storage/v1alpha1"
	storagev1beta1 "k8s.io/client-go/kubernetes/typed/storage/v1beta1"
	storagemigrationv1beta1 "k8s.io/client-go/kubernetes/typed/storagemigration/v1beta1"
)

// missingGroup is an API group that talosmate has no client for. A use of it is a bug of talosmate; the panic is caught as
// every one, and its message names the group.
type missingGroup string

func (g missingGroup) Error() string {
	return "no client for the Kubernetes API group " + string(g)
}

// otherGroups are the groups of kubernetes.Interface that the clientset has not. A group that a new version of client-go adds
// does not compile until it is named here or there.
type otherGroups struct{}

func (otherGroups) AdmissionregistrationV1() admissionregistrationv1.AdmissionregistrationV1Interface {
	panic(missingGroup("admissionregistration/v1"))
}

func (otherGroups) AdmissionregistrationV1alpha1() admissionregistrationv1alpha1.AdmissionregistrationV1alpha1Interface {
	panic(missingGroup("admissionregistration/v1alpha1"))
}

func (otherGroups) AdmissionregistrationV1beta1() admissionregistrationv1beta1.AdmissionregistrationV1beta1Interface {
	panic(missingGroup("admissionregistration/v1beta1"))
}

func (otherGroups) InternalV1alpha1() internalv1alpha1.InternalV1alpha1Interface {
	panic(missingGroup("apiserverinternal/v1alpha1"))
}

func (otherGroups) AppsV1beta1() appsv1beta1.AppsV1beta1Interface {
	panic(missingGroup("apps/v1beta1"))
}

func (otherGroups) AppsV1beta2() appsv1beta2.AppsV1beta2Interface {
	panic(missingGroup("apps/v1beta2"))
}

func (otherGroups) AuthenticationV1() authenticationv1.AuthenticationV1Interface {
	panic(missingGroup("authentication/v1"))
}

func (otherGroups) AuthenticationV1alpha1() authenticationv1alpha1.AuthenticationV1alpha1Interface {
	panic(missingGroup("authentication/v1alpha1"))
}

func (otherGroups) AuthenticationV1beta1() authenticationv1beta1.AuthenticationV1beta1Interface {
	panic(missingGroup("authentication/v1beta1"))
}

func (otherGroups) AuthorizationV1() authorizationv1.AuthorizationV1Interface {
	panic(missingGroup("authorization/v1"))
}

func (otherGroups) AuthorizationV1beta1() authorizationv1beta1.AuthorizationV1beta1Interface {
	panic(missingGroup("authorization/v1beta1"))
}

func (otherGroups) AutoscalingV1() autoscalingv1.AutoscalingV1Interface {
	panic(missingGroup("autoscaling/v1"))
}

func (otherGroups) AutoscalingV2() autoscalingv2.AutoscalingV2Interface {
	panic(missingGroup("autoscaling/v2"))
}

func (otherGroups) BatchV1() batchv1.BatchV1Interface { panic(missingGroup("batch/v1")) }

func (otherGroups) BatchV1beta1() batchv1beta1.BatchV1beta1Interface {
	panic(missingGroup("batch/v1beta1"))
}

func (otherGroups) CertificatesV1() certificatesv1.CertificatesV1Interface {
	panic(missingGroup("certificates/v1"))
}

func (otherGroups) CertificatesV1beta1() certificatesv1beta1.CertificatesV1beta1Interface {
	panic(missingGroup("certificates/v1beta1"))
}

func (otherGroups) CertificatesV1alpha1() certificatesv1alpha1.CertificatesV1alpha1Interface {
	panic(missingGroup("certificates/v1alpha1"))
}

func (otherGroups) CoordinationV1alpha2() coordinationv1alpha2.CoordinationV1alpha2Interface {
	panic(missingGroup("coordination/v1alpha2"))
}

func (otherGroups) CoordinationV1beta1() coordinationv1beta1.CoordinationV1beta1Interface {
	panic(missingGroup("coordination/v1beta1"))
}

func (otherGroups) DiscoveryV1() discoveryv1.DiscoveryV1Interface {
	panic(missingGroup("discovery/v1"))
}

func (otherGroups) DiscoveryV1beta1() discoveryv1beta1.DiscoveryV1beta1Interface {
	panic(missingGroup("discovery/v1beta1"))
}

func (otherGroups) EventsV1() eventsv1.EventsV1Interface { panic(missingGroup("events/v1")) }

func (otherGroups) EventsV1beta1() eventsv1beta1.EventsV1beta1Interface {
	panic(missingGroup("events/v1beta1"))
}

func (otherGroups) ExtensionsV1beta1() extensionsv1beta1.ExtensionsV1beta1Interface {
	panic(missingGroup("extensions/v1beta1"))
}

func (otherGroups) FlowcontrolV1() flowcontrolv1.FlowcontrolV1Interface {
	panic(missingGroup("flowcontrol/v1"))
}

func (otherGroups) FlowcontrolV1beta1() flowcontrolv1beta1.FlowcontrolV1beta1Interface {
	panic(missingGroup("flowcontrol/v1beta1"))
}

func (otherGroups) FlowcontrolV1beta2() flowcontrolv1beta2.FlowcontrolV1beta2Interface {
	panic(missingGroup("flowcontrol/v1beta2"))
}

func (otherGroups) FlowcontrolV1beta3() flowcontrolv1beta3.FlowcontrolV1beta3Interface {
	panic(missingGroup("flowcontrol/v1beta3"))
}

func (otherGroups) NetworkingV1() networkingv1.NetworkingV1Interface {
	panic(missingGroup("networking/v1"))
}

func (otherGroups) NetworkingV1beta1() networkingv1beta1.NetworkingV1beta1Interface {
	panic(missingGroup("networking/v1beta1"))
}

func (otherGroups) NodeV1() nodev1.NodeV1Interface { panic(missingGroup("node/v1")) }

func (otherGroups) NodeV1alpha1() nodev1alpha1.NodeV1alpha1Interface {
	panic(missingGroup("node/v1alpha1"))
}

func (otherGroups) NodeV1beta1() nodev1beta1.NodeV1beta1Interface {
	panic(missingGroup("node/v1beta1"))
}

func (otherGroups) RbacV1() rbacv1.RbacV1Interface { panic(missingGroup("rbac/v1")) }

func (otherGroups) RbacV1beta1() rbacv1beta1.RbacV1beta1Interface {
	panic(missingGroup("rbac/v1beta1"))
}

func (otherGroups) RbacV1alpha1() rbacv1alpha1.RbacV1alpha1Interface {
	panic(missingGroup("rbac/v1alpha1"))
}

func (otherGroups) ResourceV1() resourcev1.ResourceV1Interface { panic(missingGroup("resource/v1")) }

func (otherGroups) ResourceV1beta2() resourcev1beta2.ResourceV1beta2Interface {
	panic(missingGroup("resource/v1beta2"))
}

func (otherGroups) ResourceV1beta1() resourcev1beta1.ResourceV1beta1Interface {
	panic(missingGroup("resource/v1beta1"))
}

func (otherGroups) ResourceV1alpha3() resourcev1alpha3.ResourceV1alpha3Interface {
	panic(missingGroup("resource/v1alpha3"))
}

func (otherGroups) SchedulingV1alpha2() schedulingv1alpha2.SchedulingV1alpha2Interface {
	panic(missingGroup("scheduling/v1alpha2"))
}

func (otherGroups) SchedulingV1beta1() schedulingv1beta1.SchedulingV1beta1Interface {
	panic(missingGroup("scheduling/v1beta1"))
}

func (otherGroups) SchedulingV1() schedulingv1.SchedulingV1Interface {
	panic(missingGroup("scheduling/v1"))
}

func (otherGroups) StorageV1beta1() storagev1beta1.StorageV1beta1Interface {
	panic(missingGroup("storage/v1beta1"))
}

func (otherGroups) StorageV1() storagev1.StorageV1Interface { panic(missingGroup("storage/v1")) }

func (otherGroups) StorageV1alpha1() storagev1alpha1.StorageV1alpha1Interface {
	panic(missingGroup("storage/v1alpha1"))
}

func (otherGroups) StoragemigrationV1beta1() storagemigrationv1beta1.StoragemigrationV1beta1Interface {
	panic(missingGroup("storagemigration/v1beta1"))
}
