package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
)

const (
	manifestOwner = "k8s.ManifestController"
	proxyManifest = "10-kube-proxy"
	systemSpace   = "kube-system"
)

type object = map[string]any

// putManifests renders the Kubernetes objects that follow from the configuration (M/controllers/k8s/control_plane.go and
// manifest.go): kube-proxy, CoreDNS, flannel and the kubeconfig for pods. The others are from the recording. It needs n.mu
// held.
func (n *Node) putManifests() {
	all := map[string][]object{"11-kube-config-in-cluster": {configMap("kubeconfig-in-cluster", object{
		"kubeconfig": text(object{"clusters": []any{object{"name": "local", "cluster": object{"server": serverOf(n.config)}}}}),
	})}}

	if p := n.config.K8sProxyConfig(); p != nil && p.Enabled() {
		all[proxyManifest] = proxyObjects(n.config, p)
	}

	if d := n.config.K8sCoreDNSConfig(); d != nil && d.Enabled() {
		all["11-core-dns"], all["11-core-dns-svc"] = dnsObjects(n.config, d)
	}

	if f := n.config.K8sFlannelCNIConfig(); f != nil {
		all["05-flannel"] = flannelObjects(n.config, f)
	}

	if n.proxyLoses && len(all[proxyManifest]) > 0 {
		all[proxyManifest] = all[proxyManifest][1:]
	}

	for _, id := range renderedManifests() {
		res := k8s.NewManifest(k8s.ControlPlaneNamespaceName, id)

		if all[id] == nil {
			n.remove(res.Metadata())

			continue
		}

		for _, o := range all[id] {
			res.TypedSpec().Items = append(res.TypedSpec().Items, k8s.SingleManifest{Object: o})
		}

		n.put(res, manifestOwner)
	}
}

func renderedManifests() []string {
	return []string{"05-flannel", proxyManifest, "11-core-dns", "11-core-dns-svc", "11-kube-config-in-cluster"}
}

// RendersManifest reports whether a manifest follows from the configuration. Those are rendered in part: what depends on
// the configuration.
func RendersManifest(id string) bool { return slices.Contains(renderedManifests(), id) }

func serverOf(c config.Config) string {
	if k := c.K8sKubePrismConfig(); k != nil {
		return "https://127.0.0.1:" + strconv.Itoa(k.Port())
	}

	return c.K8sClusterConfig().ClusterEndpoint().String()
}

func named(version, kind, name string, more object) object {
	out := object{"apiVersion": version, "kind": kind, "metadata": object{"name": name, "namespace": systemSpace}}
	maps.Copy(out, more)

	return out
}

func configMap(name string, data object) object {
	return named("v1", "ConfigMap", name, object{"data": data})
}

func workload(kind, name string, containers []any, volumes ...any) object {
	return named("apps/v1", kind, name, object{"spec": object{"template": object{"spec": object{"containers": containers, "volumes": volumes}}}})
}

func requests(r config.Resources) object {
	out := object{}

	for group, values := range map[string]map[string]string{
		"requests": {"cpu": r.CPURequests(), "memory": r.MemoryRequests()}, "limits": {"cpu": r.CPULimits(), "memory": r.MemoryLimits()},
	} {
		for name, value := range values {
			if value != "" {
				out[group] = with(out[group], name, value, true)
			}
		}
	}

	return out
}

// proxyObjects renders kube-proxy with flags, or with a file whose ConfigMap has a digest in its name.
func proxyObjects(c config.Config, p config.K8sProxyConfig) []object {
	mode, pods := p.Mode(), prefixes(c.K8sNetworkConfig().PodCIDRs())
	if mode == "" {
		mode = "nftables"
	}

	args := map[string][]string{"hostname-override": {"$(NODE_NAME)"}}
	out := []object{}
	volumes := []any{object{"name": "kubeconfig", "configMap": object{"name": "kubeconfig-in-cluster"}}}
	mounts := []any{object{"name": "kubeconfig", "mountPath": "/etc/kubernetes", "readOnly": true}}

	if p.UseConfigFile() {
		args["config"] = []string{"/var/lib/kube-proxy/config.conf"}
		file := object{"clusterCIDR": pods, "mode": mode}
		maps.Copy(file, p.Config())
		file["apiVersion"], file["kind"] = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"
		file["clientConnection"] = with(file["clientConnection"], "kubeconfig", "/etc/kubernetes/kubeconfig", true)
		file["conntrack"] = with(file["conntrack"], "maxPerCore", 0, false)

		content := text(file)
		sum := sha256.Sum256([]byte(content))
		name := "kube-proxy-config-" + hex.EncodeToString(sum[:8])
		out = append(out, configMap(name, object{"config.conf": content}))
		volumes = append(volumes, object{"name": "config", "configMap": object{"name": name}})
		mounts = append(mounts, object{"name": "config", "mountPath": "/var/lib/kube-proxy", "readOnly": true})
	} else {
		args["cluster-cidr"], args["proxy-mode"] = []string{pods}, []string{mode}
		args["kubeconfig"], args["conntrack-max-per-core"] = []string{"/etc/kubernetes/kubeconfig"}, []string{"0"}
	}

	command := append([]string{"/usr/local/bin/kube-proxy"}, flags(merged(args, p.ExtraArgs()))...)

	return append(out,
		workload("DaemonSet", "kube-proxy", []any{object{
			"name": "kube-proxy", "image": p.Image(), "command": list(command), "resources": requests(p.Resources()), "volumeMounts": mounts,
		}}, volumes...),
		named("v1", "ServiceAccount", "kube-proxy", nil),
	)
}

// with sets a field of an object, or of a new one; over what is there only if it must.
func with(from any, field string, value any, must bool) object {
	out := object{}
	if o, ok := from.(object); ok {
		maps.Copy(out, o)
	}

	if _, there := out[field]; must || !there {
		out[field] = value
	}

	return out
}

func list(of []string) []any {
	out := make([]any, len(of))
	for i, one := range of {
		out[i] = one
	}

	return out
}

func dnsObjects(c config.Config, d config.K8sCoreDNSConfig) (dns, service []object) {
	addresses := k8s.DNSServiceAddrs(c.K8sNetworkConfig().ServiceCIDRs())
	ips := []any{}

	for _, ip := range addresses {
		ips = append(ips, ip.String())
	}

	dns = []object{
		configMap("coredns", object{"Corefile": fmt.Sprintf(".:53 {\n    kubernetes %s in-addr.arpa ip6.arpa\n}\n", c.K8sNetworkConfig().DNSDomain())}),
		workload("Deployment", "coredns", []any{object{"name": "coredns", "image": d.Image(), "args": []any{"-conf", "/etc/coredns/Corefile"}}}),
	}

	return dns, []object{named("v1", "Service", "kube-dns", object{"spec": object{"clusterIPs": ips}})}
}

// flannelImage is that of Talos 1.14.
const flannelImage = "ghcr.io/siderolabs/flannel:0.28.9"

func flannelObjects(c config.Config, f config.K8sFlannelCNIConfig) []object {
	backend := object{"Type": f.BackendType()}
	if port, ok := f.BackendPort().Get(); ok && port != 0 {
		backend["Port"] = port
	}

	mtu := f.BackendMTU()
	if span := c.NetworkKubeSpanConfig(); !mtu.IsPresent() && span != nil && span.Enabled() {
		backend["MTU"] = span.MTU()
	} else if mtu.ValueOrZero() != 0 {
		backend["MTU"] = mtu.ValueOrZero()
	}

	maps.Copy(backend, f.BackendExtraConfig())

	network := object{"EnableNFTables": true, "Backend": backend}
	for _, p := range c.K8sNetworkConfig().PodCIDRs() {
		network[networkKey(p)] = p.String()
	}

	raw, err := json.MarshalIndent(network, "", "  ")
	if err != nil {
		raw = []byte(err.Error())
	}

	env := []any{}

	if k := c.K8sKubePrismConfig(); k != nil {
		env = append(env, object{"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
			object{"name": "KUBERNETES_SERVICE_PORT", "value": strconv.Itoa(k.Port())})
	}

	containers := []any{object{
		"name": "kube-flannel", "image": flannelImage, "args": list(append([]string{"--ip-masq", "--kube-subnet-mgr"}, f.ExtraArgs()...)),
		"env": env, "resources": requests(f.Resources()),
	}}

	if f.KubeNetworkPoliciesEnabled() {
		containers = append(containers, object{"name": "kube-network-policies"})
	}

	return []object{
		configMap("kube-flannel-cfg", object{"net-conf.json": string(raw)}),
		workload("DaemonSet", "kube-flannel", containers),
	}
}

func networkKey(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "IPv6Network"
	}

	return "Network"
}
