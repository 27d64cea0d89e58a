package machineconfig

import (
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
)

// Risks of a change.
const (
	RiskNetwork      = "network"      // It can cut the node off.
	RiskCertificates = "certificates" // It can keep the node and those who ask it from trusting each other.
	RiskUnknown      = "unknown"      // This program does not know the document.
)

// Risk says how a change can make a node unreachable, empty where it cannot: links, addresses, routes, names, DNS, virtual
// IPs, firewall, KubeSpan and discovery are the network; authorities, names in certificates and tokens are certificates.
func (c Change) Risk() string {
	kind, _, _ := strings.Cut(c.Document, "/")
	under := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool {
			rest, has := strings.CutPrefix(c.Path, p)

			return has && (rest == "" || strings.ContainsAny(rest[:1], ".["))
		})
	}

	switch {
	case strings.Contains(c.Path, `"net.`): // a kernel parameter
		return RiskNetwork
	case strings.Contains(c.Path, "certSANs"):
		return RiskCertificates
	case kind == mainKind && under("machine.ca", "machine.acceptedCAs", "machine.token", "cluster.id", "cluster.secret", "cluster.token", "cluster.ca",
		"cluster.acceptedCAs", "cluster.aggregatorCA", "cluster.etcd.ca", "cluster.serviceAccount"):
		return RiskCertificates
	case kind == mainKind && under("machine.type", "machine.network", "machine.features.kubePrism", "machine.features.hostDNS", "machine.features.nodeAddressSortAlgorithm",
		"machine.kubelet.nodeIP", "cluster.controlPlane", "cluster.discovery", "cluster.network", "cluster.etcd.advertisedSubnets", "cluster.etcd.listenSubnets", "cluster.etcd.subnet"):
		return RiskNetwork
	case kind == mainKind:
		return ""
	}

	of := typeOfKind(kind)

	switch {
	case of == nil:
		return RiskUnknown
	case slices.Contains([]string{"network", "siderolink", "cluster"}, path.Base(of.PkgPath())):
		return RiskNetwork
	case slices.Contains([]string{"TrustedRootsConfig", "KubeAPIServerCAConfig", "KubeAggregatorCAConfig", "KubeServiceAccountConfig"}, kind):
		return RiskCertificates
	case slices.Contains([]string{"KubePrismConfig", "KubeNetworkConfig", "KubeClusterConfig"}, kind), kind == "KubeletConfig" && under("nodeIP"):
		return RiskNetwork
	default:
		return ""
	}
}

// typeOfKind is the type of the documents of a kind; nil if machinery does not know it.
func typeOfKind(kind string) reflect.Type {
	if !slices.Contains([]byte(kind), '\n') && kind != "" {
		cfg, err := configloader.NewFromBytes([]byte("apiVersion: v1alpha1\nkind: "+kind+"\n"), configloader.WithNoValidation())
		if err == nil && len(cfg.Documents()) == 1 {
			return reflect.TypeOf(cfg.Documents()[0]).Elem()
		}
	}

	return nil
}

// KubernetesImage reports whether a change is that of an image which an upgrade of Kubernetes changes on the nodes.
func (c Change) KubernetesImage() bool {
	switch kind, _, _ := strings.Cut(c.Document, "/"); kind {
	case mainKind:
		return slices.Contains([]string{
			"machine.kubelet.image", "cluster.apiServer.image", "cluster.controllerManager.image", "cluster.scheduler.image", "cluster.proxy.image",
		}, c.Path)
	case "KubeletConfig", "KubeAPIServerConfig", "KubeControllerManagerConfig", "KubeSchedulerConfig", "KubeProxyConfig":
		return c.Path == "image"
	default:
		return false
	}
}
