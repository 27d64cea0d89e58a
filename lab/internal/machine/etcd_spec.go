package machine

import (
	"net/netip"
	"strconv"

	etcdres "github.com/siderolabs/talos/pkg/machinery/resources/etcd"
)

// putEtcdSpec shows the arguments of the node's member, including its quota, as a machine configuration with
// cluster.etcd.extraArgs sets it.
func (n *Node) putEtcdSpec() {
	quota := n.Etcd.Quota()
	if quota == 0 {
		return // the recorded resource is right: no arguments
	}

	spec := etcdres.NewSpec(etcdres.NamespaceName, etcdres.SpecID)
	spec.TypedSpec().Name = n.hostname
	spec.TypedSpec().Image = "registry.k8s.io/etcd:v3.6.12"
	spec.TypedSpec().AdvertisedAddresses = []netip.Addr{n.Address}
	spec.TypedSpec().ListenPeerAddresses = []netip.Addr{netip.IPv4Unspecified()}
	spec.TypedSpec().ListenClientAddresses = []netip.Addr{netip.IPv4Unspecified()}
	spec.TypedSpec().ExtraArgs = map[string]etcdres.ArgValues{
		"quota-backend-bytes": {Values: []string{strconv.FormatInt(quota, 10)}},
	}

	n.put(spec, "etcd.SpecController")
}
