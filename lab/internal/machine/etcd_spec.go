package machine

import (
	"net/netip"
	"strconv"

	etcdres "github.com/siderolabs/talos/pkg/machinery/resources/etcd"
)

// etcdImage returns the image of the running Talos's etcd. The lab's members are etcd 3.6 with either.
func (n *Node) etcdImage() string {
	if AtLeast(n.versionTag(), 14) {
		return "registry.k8s.io/etcd:3.7.1"
	}

	return "registry.k8s.io/etcd:v3.6.12"
}

// putEtcdSpec shows the arguments of the node's member, including its quota, as a machine configuration with
// cluster.etcd.extraArgs sets it.
func (n *Node) putEtcdSpec() {
	quota := n.Etcd.Quota()
	if quota == 0 {
		return // the recorded resource is right: no arguments
	}

	spec := etcdres.NewSpec(etcdres.NamespaceName, etcdres.SpecID)
	spec.TypedSpec().Name = n.hostname
	spec.TypedSpec().Image = n.etcdImage()
	spec.TypedSpec().AdvertisedAddresses = []netip.Addr{n.Address}
	spec.TypedSpec().ListenPeerAddresses = []netip.Addr{netip.IPv4Unspecified()}
	spec.TypedSpec().ListenClientAddresses = []netip.Addr{netip.IPv4Unspecified()}
	spec.TypedSpec().ExtraArgs = map[string]etcdres.ArgValues{
		"quota-backend-bytes": {Values: []string{strconv.FormatInt(quota, 10)}},
	}

	n.put(spec, "etcd.SpecController")
}
