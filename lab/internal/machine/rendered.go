package machine

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"go.yaml.in/yaml/v4"
)

const apiServer = "kube-apiserver"

// rendering is a static pod of the control plane as it was rendered last.
type rendering struct {
	text    string
	version int
	started time.Time
}

// rendersConfig reports whether the node makes resources of its configuration. Before 1.14 those of the recordings are
// shown. It needs n.mu held.
func (n *Node) rendersConfig() bool { return n.config != nil && AtLeast(n.versionTag(), 14) }

// putRendered makes the resources that Talos 1.14 makes of a configuration, in either form (siderolabs/talos, release-1.14,
// M/controllers/k8s and M/controllers/network). It needs n.mu held.
func (n *Node) putRendered() {
	if !n.rendersConfig() {
		return
	}

	n.putKernelParams()
	n.putNodeSpecs()
	n.putNetworkSpecs()

	if n.nodeType == ControlPlane && n.config.K8sAPIServerConfig() != nil {
		n.putControlPlane()
	}
}

func (n *Node) putKernelParams() {
	keep := map[string]bool{}
	put := func(prefix string, params map[string]string) {
		for key, value := range params {
			res := runtime.NewKernelParamSpec(runtime.NamespaceName, prefix+key)
			res.TypedSpec().Value = value
			keep[res.Metadata().ID()] = true
			n.put(res, "runtime.KernelParamConfigController")
		}
	}

	put("proc.sys.", n.config.SysctlConfig())
	put("sys.", n.config.SysfsConfig())
	n.removeOthers(runtime.NewKernelParamSpec(runtime.NamespaceName, ""), func(id string) bool { return keep[id] })
}

// putNodeSpecs shows labels, taints and annotations of the Kubernetes node.
func (n *Node) putNodeSpecs() {
	labels, taints := map[string]string{}, map[string]string{}
	if node := n.config.K8sNodeConfig(); node != nil {
		labels, taints = node.Labels(), node.Taints()
	}

	for key, value := range labels {
		res := k8s.NewNodeLabelSpec(key)
		res.TypedSpec().Key, res.TypedSpec().Value = key, value
		n.put(res, "k8s.NodeLabelSpecController")
	}

	for key, value := range taints {
		res := k8s.NewNodeTaintSpec(key)
		res.TypedSpec().Key = key
		res.TypedSpec().Value, res.TypedSpec().Effect, _ = strings.Cut(value, ":")

		if res.TypedSpec().Effect == "" {
			res.TypedSpec().Value, res.TypedSpec().Effect = "", value
		}

		n.put(res, "k8s.NodeTaintSpecController")
	}

	n.removeOthers(k8s.NewNodeLabelSpec(""), func(id string) bool { _, ok := labels[id]; return ok })
	n.removeOthers(k8s.NewNodeTaintSpec(""), func(id string) bool { _, ok := taints[id]; return ok })
}

// links collects what a configuration makes of the links.
type links struct {
	specs     map[string]*network.LinkSpec
	addresses map[string]*network.AddressSpec
	routes    map[string]*network.RouteSpec
	dhcp      map[string]bool
}

func (l links) up(name string) *network.LinkSpec {
	if l.specs[name] == nil {
		l.specs[name] = network.NewLinkSpec(network.NamespaceName, name)
		l.specs[name].TypedSpec().Name, l.specs[name].TypedSpec().Up = name, true
	}

	l.specs[name].TypedSpec().ConfigLayer = network.ConfigMachineConfiguration

	return l.specs[name]
}

func (l links) address(name string, p netip.Prefix, layer network.ConfigLayer) {
	res := network.NewAddressSpec(network.NamespaceName, name+"/"+p.String())
	res.TypedSpec().Address, res.TypedSpec().LinkName, res.TypedSpec().ConfigLayer = p, name, layer
	l.addresses[res.Metadata().ID()] = res
}

func (l links) route(name, to, via string, metric uint32) {
	if metric == 0 {
		metric = network.DefaultRouteMetric
	}

	res := network.NewRouteSpec(network.NamespaceName, fmt.Sprintf("%s/%s/%s/%d", name, via, to, metric))
	res.TypedSpec().Destination, _ = netip.ParsePrefix(to) //nolint:errcheck // a default route has none
	res.TypedSpec().Gateway, _ = netip.ParseAddr(via)      //nolint:errcheck // a route on the link has none
	res.TypedSpec().OutLinkName, res.TypedSpec().Priority, res.TypedSpec().ConfigLayer = name, metric, network.ConfigMachineConfiguration
	l.routes[res.Metadata().ID()] = res
}

// collectLinks reads devices of v1alpha1 and documents.
func collectLinks(c config.Config) links {
	l := links{map[string]*network.LinkSpec{}, map[string]*network.AddressSpec{}, map[string]*network.RouteSpec{}, map[string]bool{}}

	for _, d := range c.Machine().Network().Devices() {
		l.up(d.Interface()).TypedSpec().MTU = uint32(d.MTU())
		l.dhcp[d.Interface()] = d.DHCP()

		for _, text := range d.Addresses() {
			if p, err := netip.ParsePrefix(text); err == nil {
				l.address(d.Interface(), p, network.ConfigMachineConfiguration)
			}
		}

		for _, r := range d.Routes() {
			to := r.Network()
			if p, err := netip.ParsePrefix(to); err == nil && p.Bits() == 0 {
				to = ""
			}

			l.route(d.Interface(), to, r.Gateway(), r.Metric())
		}
	}

	for _, d := range c.NetworkCommonLinkConfigs() {
		spec := l.up(d.Name()).TypedSpec()
		spec.MTU, spec.Up = d.MTU().ValueOrZero(), d.Up().ValueOr(true)

		for _, a := range d.Addresses() {
			l.address(d.Name(), a.Address(), network.ConfigMachineConfiguration)
		}

		for _, r := range d.Routes() {
			to := ""
			if p, ok := r.Destination().Get(); ok {
				to = p.String()
			}

			via := ""
			if a, ok := r.Gateway().Get(); ok {
				via = a.String()
			}

			l.route(d.Name(), to, via, r.Metric().ValueOrZero())
		}
	}

	for _, d := range c.NetworkDHCPv4Configs() {
		l.dhcp[d.Name()] = true
	}

	return l
}

// physical is the one physical link of a node.
const physical = "eth0"

// putNetworkSpecs shows links, addresses, routes and names. The physical link runs DHCP unless a configuration names links.
func (n *Node) putNetworkSpecs() {
	c := n.config
	l := collectLinks(c)

	if l.specs[physical] == nil {
		l.up(physical).TypedSpec().ConfigLayer = network.ConfigDefault
		l.dhcp[physical] = l.dhcp[physical] || c.RunDefaultDHCPOperators()
	}

	if l.dhcp[physical] {
		l.address(physical, netip.PrefixFrom(n.Address, 24), network.ConfigOperator)
	}

	putAll(n, l.specs, network.NewLinkSpec(network.NamespaceName, ""))
	putAll(n, l.addresses, network.NewAddressSpec(network.NamespaceName, ""))
	putAll(n, l.routes, network.NewRouteSpec(network.NamespaceName, ""))

	name := network.NewHostnameSpec(network.NamespaceName, network.HostnameID)
	name.TypedSpec().Hostname, name.TypedSpec().ConfigLayer = n.hostname, network.ConfigMachineConfiguration
	n.put(name, "HostnameMergeControllers.net.talos.dev")

	servers := network.NewTimeServerSpec(network.NamespaceName, network.TimeServerID)
	servers.TypedSpec().NTPServers = []string{constants.DefaultNTPServer}

	if t := c.NetworkTimeSyncConfig(); t != nil && len(t.Servers()) > 0 {
		servers.TypedSpec().NTPServers, servers.TypedSpec().UseNTS, servers.TypedSpec().ConfigLayer = t.Servers(), t.UseNTS(), network.ConfigMachineConfiguration
	}

	n.put(servers, "TimeServerMergeControllers.net.talos.dev")

	resolvers := network.NewResolverSpec(network.NamespaceName, network.ResolverID)
	resolvers.TypedSpec().DNSServers = []netip.Addr{netip.MustParseAddr(constants.DefaultPrimaryResolver), netip.MustParseAddr(constants.DefaultSecondaryResolver)}

	if r := c.NetworkResolverConfig(); r != nil {
		if list := r.Resolvers(); len(list) > 0 {
			resolvers.TypedSpec().DNSServers, resolvers.TypedSpec().ConfigLayer = nil, network.ConfigMachineConfiguration
			for _, one := range list {
				resolvers.TypedSpec().DNSServers = append(resolvers.TypedSpec().DNSServers, one.Addr)
			}
		}

		resolvers.TypedSpec().SearchDomains, resolvers.TypedSpec().SearchDomainsOverridden = r.SearchDomains().Get()
	}

	n.put(resolvers, "ResolverMergeControllers.net.talos.dev")
}

func putAll[T resource.Resource](n *Node, all map[string]T, kind resource.Resource) {
	for _, res := range all {
		n.put(res, "network.MergeController")
	}

	n.removeOthers(kind, func(id string) bool { _, ok := all[id]; return ok })
}

// putControlPlane makes the files, static pods and manifests of the control plane.
func (n *Node) putControlPlane() {
	c := n.config

	admission := k8s.NewAdmissionControlConfig()
	for _, one := range c.K8sAdmissionControlPluginConfigs() {
		admission.TypedSpec().Config = append(admission.TypedSpec().Config, k8s.AdmissionPluginSpec{Name: one.Name(), Configuration: one.Configuration()})
	}

	n.put(admission, "k8s.ControlPlaneAdmissionControlController")

	if policy := c.K8sAuditPolicyConfig(); policy != nil {
		audit := k8s.NewAuditPolicyConfig()
		audit.TypedSpec().Config = policy.Configuration()
		n.put(audit, "k8s.ControlPlaneAuditPolicyController")
	}

	authorization := k8s.NewAuthorizationConfig()
	authorization.TypedSpec().Image, authorization.TypedSpec().Config = c.K8sAPIServerConfig().Image(), authorizers(c)
	n.put(authorization, "k8s.ControlPlaneAuthorizationController")

	encryption := k8s.NewEtcdEncryptionConfig(k8s.EtcdEncryptionConfigID)
	encryption.TypedSpec().Configuration = text(encryptionOf(c))

	n.put(encryption, "k8s.EtcdEncryptionConfigController")

	s, rendered := c.K8sAPIServerConfig(), renderAPIServer(c)
	if n.putPod(apiServer, s.Image(), apiServerArgs(c), s, map[string]any{"probes": s.StartupProbesEnabled()}, text(rendered.Files)) && n.kubernetes {
		n.apiServerExits = false
		n.kubelet.RunAPIServer(n, rendered)
	}

	n.putManifests()

	if m := c.K8sControllerManagerConfig(); m != nil && m.Enabled() {
		args := map[string][]string{
			"cluster-cidr":             {prefixes(c.K8sNetworkConfig().PodCIDRs())},
			"service-cluster-ip-range": {prefixes(c.K8sNetworkConfig().ServiceCIDRs())},
		}
		n.putPod("kube-controller-manager", m.Image(), merged(args, m.ExtraArgs()), m, nil, "")
	}

	if m := c.K8sSchedulerConfig(); m != nil && m.Enabled() {
		n.putPod("kube-scheduler", m.Image(), merged(map[string][]string{"leader-elect": {"true"}}, m.ExtraArgs()), m, map[string]any{"config": m.Config()}, "")
	}
}

func text(value any) string {
	out, err := yaml.Marshal(value)
	if err != nil {
		return err.Error()
	}

	return string(out)
}

func prefixes(list []netip.Prefix) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}

	return strings.Join(out, ",")
}

func merged(args, extra map[string][]string) map[string][]string {
	maps.Copy(args, extra)

	return args
}

// component is what the configurations of the three static pods have in common.
type component interface {
	ExtraVolumes() []config.VolumeMount
	Env() config.Env
	Resources() config.Resources
}

// putPod shows a static pod, whose versions count its renderings as Talos's do: the pod's own and that of its files. It
// reports whether this is a new one.
func (n *Node) putPod(id, image string, args map[string][]string, from component, more map[string]any, files string) bool {
	command := []any{"/usr/local/bin/" + id}
	for _, arg := range flags(args) {
		command = append(command, arg)
	}

	volumes, mounts, env := []any{}, []any{}, []any{}
	for _, v := range from.ExtraVolumes() {
		volumes = append(volumes, map[string]any{"name": v.Name(), "hostPath": map[string]any{"path": v.HostPath()}})
		mounts = append(mounts, map[string]any{"name": v.Name(), "mountPath": v.MountPath(), "readOnly": v.ReadOnly()})
	}

	for _, name := range slices.Sorted(maps.Keys(from.Env())) {
		env = append(env, map[string]any{"name": name, "value": from.Env()[name]})
	}

	container := map[string]any{
		"name": id, "image": image, "command": command, "volumeMounts": mounts, "env": env,
		"resources": map[string]any{"requests": map[string]any{"cpu": from.Resources().CPURequests(), "memory": from.Resources().MemoryRequests()}},
	}
	maps.Copy(container, more)

	spec := map[string]any{"containers": []any{container}, "volumes": volumes, "hostNetwork": true}

	raw, err := json.Marshal(spec)
	if err != nil {
		n.cluster.Note(n.Name, "error", err.Error())

		return false
	}

	now := string(raw) + files
	r := n.rendered[id]
	fresh := r.text != now

	if fresh {
		r = rendering{now, r.version + 1, time.Now()}
		n.rendered[id] = r
	}

	pod := k8s.NewStaticPod(k8s.NamespaceName, id)
	pod.TypedSpec().Pod = map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": id, "namespace": "kube-system", "annotations": map[string]any{"talos.dev/config-version": strconv.Itoa(r.version)},
			"labels": map[string]any{"component": id, "k8s-app": id, "tier": "control-plane"},
		},
		"spec": spec,
	}
	n.put(pod, "k8s.ControlPlaneStaticPodController")

	return fresh
}
