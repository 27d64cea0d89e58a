package migrate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/types/k8s"
	"github.com/siderolabs/talos/pkg/machinery/config/types/meta"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/talosmate/talosmate/internal/lists"
)

func kubernetes() []subsystem {
	return []subsystem{
		{"v1.14", []string{"KubeClusterConfig"}, clusterEndpoint},
		{"v1.14", []string{"KubeNodeConfig"}, node},
		{"v1.14", []string{"KubeletConfig", "KubeCredentialProviderConfig"}, kubelet},
		{"v1.14", []string{"KubeNetworkConfig", "KubeFlannelCNIConfig"}, clusterNetwork},
		{"v1.14", []string{"KubeAPIServerCAConfig"}, apiServerCA},
		{"v1.14", []string{"KubePrismConfig"}, kubePrism},
		{"v1.14", []string{"KubeTalosAPIAccessConfig"}, talosAPIAccess},
		{"v1.14", []string{"KubeStaticPodConfig"}, staticPods},
		{"v1.14", []string{"KubeAggregatorCAConfig"}, controlPlaneOnly("cluster.aggregatorCA", aggregatorCA)},
		{"v1.14", []string{"KubeServiceAccountConfig"}, controlPlaneOnly("cluster.serviceAccount", serviceAccount)},
		{"v1.14", []string{"KubeEtcdEncryptionConfig"}, controlPlaneOnly("cluster", etcdEncryption)},
		{
			"v1.14",
			[]string{"KubeAPIServerConfig", "KubeAuthenticationConfig", "KubeAuthorizerConfig", "KubeAdmissionControlConfig", "KubeAuditPolicyConfig"},
			controlPlaneOnly("cluster.apiServer", apiServer),
		},
		{"v1.14", []string{"KubeControllerManagerConfig"}, controlPlaneOnly("cluster.controllerManager", controllerManager)},
		{"v1.14", []string{"KubeSchedulerConfig"}, controlPlaneOnly("cluster.scheduler", scheduler)},
		{"v1.14", []string{"KubeProxyConfig"}, controlPlaneOnly("cluster.proxy", proxy)},
		{"v1.14", []string{"KubeCoreDNSConfig"}, controlPlaneOnly("cluster.coreDNS", coreDNS)},
		{"v1.14", []string{"KubeInlineManifestConfig"}, controlPlaneOnly("cluster.inlineManifests", inlineManifests)},
		{"v1.14", []string{"KubeExternalManifestConfig"}, controlPlaneOnly("cluster.extraManifests", externalManifests)},
	}
}

// controlPlaneOnly keeps a subsystem on workers, where Talos refuses its documents.
func controlPlaneOnly(path string, convert func(*source) *unit) func(*source) *unit {
	return func(s *source) *unit {
		if s.v.ClusterConfig == nil || !strings.Contains(path, ".") && !s.controlPlane() {
			return nil
		}

		if s.controlPlane() {
			return convert(s)
		}

		u := s.unit()
		if s.has(path) {
			u.block(path, "Talos takes the document on control planes only", "remove it: a worker makes no use of it")
		}

		return u
	}
}

const needsImage = "Talos chooses the image of its own release while v1alpha1 names none, and the document must name one"

func clusterEndpoint(s *source) *unit {
	c := s.v.ClusterConfig
	if c == nil || c.Endpoint() == nil && c.ClusterName == "" {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeClusterConfigV1Alpha1()
	doc.ClusterNameConfig = c.ClusterName

	if c.Endpoint() != nil {
		doc.ClusterEndpointConfig = meta.URL{URL: c.Endpoint()}
	}

	if c.ClusterServiceAccount != nil && (!s.controlPlane() || !s.wants("KubeServiceAccountConfig")) {
		u.block("cluster.controlPlane.endpoint", "the issuer of cluster.serviceAccount comes from the endpoint", "migrate KubeServiceAccountConfig too")
	}

	u.write(doc)
	u.move("cluster.clusterName", doc, "clusterName")
	u.move("cluster.controlPlane.endpoint", doc, "endpoint")

	return u.validate("cluster.controlPlane.endpoint")
}

func node(s *source) *unit {
	m, c := s.v.MachineConfig, s.v.ClusterConfig
	u, doc := s.unit(), k8s.NewKubeNodeConfigV1Alpha1()
	doc.LabelsConfig, doc.AnnotationsConfig, doc.TaintsConfig = maps.Clone(m.MachineNodeLabels), maps.Clone(m.MachineNodeAnnotations), maps.Clone(m.MachineNodeTaints)

	if k := m.MachineKubelet; k != nil {
		doc.SkipNodeRegistrationConfig, doc.RegisterWithFQDNConfig = k.KubeletSkipNodeRegistration, k.KubeletRegisterWithFQDN
		if k.KubeletNodeIP != nil {
			doc.NodeIPConfig.NodeIPValidSubnets = k.KubeletNodeIP.KubeletNodeIPValidSubnets
		}
	}

	u.move("machine.nodeLabels", doc, "labels")
	u.move("machine.nodeAnnotations", doc, "annotations")
	u.move("machine.nodeTaints", doc, "taints")
	u.move("machine.kubelet.skipNodeRegistration", doc, "skipNodeRegistration")
	u.move("machine.kubelet.registerWithFQDN", doc, "registerWithFQDN")
	u.move("machine.kubelet.nodeIP", doc, "nodeIP")

	if c != nil && s.controlPlane() {
		u.move("cluster.allowSchedulingOnControlPlanes", doc, "taints")
		u.move("cluster.allowSchedulingOnMasters", doc, "taints")
	} else {
		u.drop("cluster.allowSchedulingOnControlPlanes", "it is about control planes only")
		u.drop("cluster.allowSchedulingOnMasters", "it is about control planes only")
	}

	if len(u.moves) == 0 {
		return u
	}

	if s.controlPlane() {
		role := constants.LabelNodeRoleControlPlane
		doc.LabelsConfig = with(doc.LabelsConfig, role, "")
		u.add(doc, join("labels", role), "v1alpha1 gives control planes the label, the document does not")

		if c == nil || !c.ScheduleOnControlPlanes() {
			doc.TaintsConfig = with(doc.TaintsConfig, role, constants.TaintEffectNoSchedule)
			u.add(doc, join("taints", role), "v1alpha1 gives control planes the taint, the document does not")
		}
	}

	u.write(doc)

	return u.validate(u.moves[0].from)
}

func with(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}

	m[k] = v

	return m
}

func kubelet(s *source) *unit {
	k := s.v.MachineConfig.MachineKubelet
	if k == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeletConfigV1Alpha1()
	doc.KubeletImage, doc.KubeletClusterDNS, doc.KubeletArgs = k.KubeletImage, k.KubeletClusterDNS, k.KubeletExtraArgs
	doc.KubeletConfig, doc.KubeletDefaultRuntimeSeccompProfileEnabled = k.KubeletExtraConfig, k.KubeletDefaultRuntimeSeccompProfileEnabled

	if k.KubeletImage == "" {
		u.block("machine.kubelet.image", needsImage, "set machine.kubelet.image")
	}

	if len(k.KubeletExtraMounts) > 0 {
		u.block("machine.kubelet.extraMounts", "KubeletConfig has no extra mounts", "use a UserVolumeConfig or ExistingVolumeConfig, which kubelet sees, and remove the mounts")
	}

	if !k.DisableManifestsDirectory() {
		u.block("machine.kubelet.disableManifestsDirectory", "KubeletConfig always disables the directory of static pod manifests, and this node has it",
			"set machine.kubelet.disableManifestsDirectory to true, if /etc/kubernetes/manifests is not used")
	}

	for _, path := range []string{"machine.kubelet.skipNodeRegistration", "machine.kubelet.registerWithFQDN", "machine.kubelet.nodeIP"} {
		if s.has(path) && !s.wants("KubeNodeConfig") {
			u.block(path, "it belongs to KubeNodeConfig, which was not chosen", "migrate KubeNodeConfig too")
		}
	}

	u.write(doc)

	for from, to := range map[string]string{
		"image": "image", "clusterDNS": "clusterDNS", "extraArgs": "extraArgs", "extraConfig": "config",
		"defaultRuntimeSeccompProfileEnabled": "defaultRuntimeSeccompProfileEnabled",
	} {
		u.move("machine.kubelet."+from, doc, to)
	}

	if len(k.KubeletCredentialProviderConfig.Object) > 0 {
		provider := k8s.NewKubeCredentialProviderConfigV1Alpha1()
		provider.CredentialProviderConfig = k.KubeletCredentialProviderConfig
		u.write(provider)
		u.move("machine.kubelet.credentialProviderConfig", provider, "configuration")
	}

	u.drop("machine.kubelet.disableManifestsDirectory", "KubeletConfig always does")
	u.drop("machine.kubelet.extraMounts", "it is empty")
	lists.Sort(u.moves, func(a, b move) int { return strings.Compare(a.from, b.from) })

	return u.validate("machine.kubelet")
}

func clusterNetwork(s *source) *unit {
	if s.v.ClusterConfig == nil || s.v.ClusterConfig.ClusterNetwork == nil {
		return nil
	}

	c := s.v.ClusterConfig
	n, cni := c.ClusterNetwork, c.CNI()
	u, doc := s.unit(), k8s.NewKubeNetworkConfigV1Alpha1()

	prefixes := func(list []netip.Prefix) []meta.Prefix {
		return lists.Map(list, func(p netip.Prefix) meta.Prefix { return meta.Prefix{Prefix: p} })
	}

	doc.NetworkDNSDomain, doc.NetworkPodSubnets, doc.NetworkServiceSubnets = c.DNSDomain(), prefixes(c.PodCIDRs()), prefixes(c.ServiceCIDRs())
	u.write(doc)
	u.move("cluster.network.dnsDomain", doc, "dnsDomain")
	u.move("cluster.network.podSubnets", doc, "podSubnets")
	u.move("cluster.network.serviceSubnets", doc, "serviceSubnets")

	if len(n.PodSubnet) == 0 {
		u.add(doc, "podSubnets", "v1alpha1 implies the range, the document does not")
	}

	if len(n.ServiceSubnet) == 0 {
		u.add(doc, "serviceSubnets", "v1alpha1 implies the range, the document does not")
	}

	switch {
	case cni.CNIName == constants.FlannelCNI && s.controlPlane():
		flannel := k8s.NewKubeFlannelCNIConfigV1Alpha1()
		from := cni.Flannel()
		flannel.FlannelBackendType, flannel.FlannelBackendPort = constants.FlannelDefaultBackend, constants.FlannelDefaultBackendPort
		flannel.FlannelExtraArgs = from.ExtraArgs()

		if cni.CNIFlannel != nil {
			flannel.FlannelKubeNetworkPoliciesEnabled = cni.CNIFlannel.FlannelKubeNetworkPoliciesEnabled
		}

		u.write(flannel)
		u.add(flannel, "backendType", "v1alpha1 installs flannel with this backend, the document names it")
		u.add(flannel, "backendPort", "v1alpha1 installs flannel with this port, the document names it")
		u.move("cluster.network.cni.name", flannel, "")
		u.move("cluster.network.cni.flannel.extraArgs", flannel, "extraArgs")
		u.move("cluster.network.cni.flannel.kubeNetworkPoliciesEnabled", flannel, "kubeNetworkPoliciesEnabled")
	case s.controlPlane():
		u.drop("cluster.network.cni.name", "no CNI is installed where no KubeFlannelCNIConfig is")
	default:
		u.drop("cluster.network.cni", "control planes install the CNI")
	}

	if s.controlPlane() && len(cni.CNIUrls) > 0 {
		if !s.wants("KubeExternalManifestConfig") {
			u.block("cluster.network.cni.urls", "it belongs to KubeExternalManifestConfig, which was not chosen", "migrate KubeExternalManifestConfig too")
		}

		u.manifests("cluster.network.cni.urls", cni.CNIUrls, c.ExtraManifestHeaders)
	}

	u.clear("cluster.network.cni")
	u.clear("cluster.network")

	return u.validate("cluster.network")
}

func apiServerCA(s *source) *unit {
	c := s.v.ClusterConfig
	if c == nil || c.ClusterCA == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeAPIServerCAConfigV1Alpha1()

	if len(c.ClusterCA.Key) > 0 {
		doc.APIIssuingCA = &meta.CertificateAndKey{Cert: string(c.ClusterCA.Crt), Key: string(c.ClusterCA.Key)}
		u.move("cluster.ca.crt", doc, "issuingCA.cert")
		u.move("cluster.ca.key", doc, "issuingCA.key")
	} else {
		doc.APIAcceptedCAs = []string{string(c.ClusterCA.Crt)}
		u.move("cluster.ca", doc, "acceptedCAs")
	}

	for _, ca := range c.ClusterAcceptedCAs {
		doc.APIAcceptedCAs = append(doc.APIAcceptedCAs, string(ca.Crt))
	}

	u.write(doc)
	u.move("cluster.acceptedCAs", doc, "acceptedCAs")
	u.clear("cluster.ca")

	return u.validate("cluster.ca")
}

func kubePrism(s *source) *unit {
	if s.v.MachineConfig.MachineFeatures == nil || s.v.MachineConfig.MachineFeatures.KubePrismSupport == nil {
		return nil
	}

	u, from := s.unit(), s.v.MachineConfig.MachineFeatures.KubePrismSupport
	if !from.Enabled() {
		u.drop("machine.features.kubePrism", "KubePrism is off without its document")

		return u
	}

	doc := k8s.NewKubePrismConfigV1Alpha1()
	doc.PortConfig = from.Port()
	u.write(doc)
	u.move("machine.features.kubePrism.enabled", doc, "")
	u.move("machine.features.kubePrism.port", doc, "port")

	if from.ServerPort == 0 {
		u.add(doc, "port", "v1alpha1 implies the port, the document names it")
	}

	return u.validate("machine.features.kubePrism")
}

func talosAPIAccess(s *source) *unit {
	if s.v.MachineConfig.MachineFeatures == nil || s.v.MachineConfig.MachineFeatures.KubernetesTalosAPIAccessConfig == nil {
		return nil
	}

	u, from := s.unit(), s.v.MachineConfig.MachineFeatures.KubernetesTalosAPIAccessConfig
	if !from.Enabled() {
		u.drop("machine.features.kubernetesTalosAPIAccess", "the access is off without its document")

		return u
	}

	doc := k8s.NewKubeTalosAPIAccessConfigV1Alpha1()
	doc.AccessAllowedRoles, doc.AccessAllowedKubernetesNamespaces = from.AllowedRoles(), from.AllowedKubernetesNamespaces()
	u.write(doc)
	u.move("machine.features.kubernetesTalosAPIAccess.enabled", doc, "")
	u.move("machine.features.kubernetesTalosAPIAccess.allowedRoles", doc, "allowedRoles")
	u.move("machine.features.kubernetesTalosAPIAccess.allowedKubernetesNamespaces", doc, "allowedKubernetesNamespaces")

	return u.validate("machine.features.kubernetesTalosAPIAccess")
}

func staticPods(s *source) *unit {
	u := s.unit()

	for i, pod := range s.v.K8sStaticPodConfigs() {
		doc := k8s.NewKubeStaticPodConfigV1Alpha1()
		doc.MetaName, doc.PodSpec = pod.Name(), meta.Unstructured{Object: pod.Pod()}
		u.write(doc)
		u.move(index("machine.pods", i), doc, "pod")
	}

	u.clear("machine.pods")

	return u.validate("machine.pods").unique("machine.pods")
}

// unique blocks documents of one name.
func (u *unit) unique(path string) *unit {
	seen := map[string]bool{}

	for _, d := range u.docs {
		if seen[key(d)] {
			u.block(path, "two entries would be the document "+key(d), "join the two, or rename one")
		}

		seen[key(d)] = true
	}

	return u
}

func aggregatorCA(s *source) *unit {
	ca := s.v.ClusterConfig.ClusterAggregatorCA
	if ca == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeAggregatorCAConfigV1Alpha1()
	doc.AggregatorIssuingCA = &meta.CertificateAndKey{Cert: string(ca.Crt), Key: string(ca.Key)}
	u.write(doc)
	u.move("cluster.aggregatorCA.crt", doc, "issuingCA.cert")
	u.move("cluster.aggregatorCA.key", doc, "issuingCA.key")

	return u.validate("cluster.aggregatorCA")
}

func serviceAccount(s *source) *unit {
	c := s.v.ClusterConfig
	if c.ClusterServiceAccount == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeServiceAccountConfigV1Alpha1()
	doc.ServiceIssuer.PrivateKey = string(c.ClusterServiceAccount.Key)

	if c.Endpoint() != nil {
		doc.ServiceIssuer.IssuerURL = meta.URL{URL: c.Endpoint()}
	}

	u.write(doc)
	u.move("cluster.serviceAccount.key", doc, "issuer.privateKey")
	u.add(doc, "issuer.issuerURL", "v1alpha1 takes the cluster's endpoint as the issuer, the document names it")

	return u.validate("cluster.serviceAccount")
}

// etcdEncryption names provider and keys as Talos does for v1alpha1 (Talos,
// internal/app/machined/pkg/controllers/k8s/internal/k8stemplates/apiserver.go): kube-apiserver finds the key of what is
// in etcd by these names.
func etcdEncryption(s *source) *unit {
	c := s.v.ClusterConfig
	if c.ClusterSecretboxEncryptionSecret == "" && c.ClusterAESCBCEncryptionSecret == "" {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeEtcdEncryptionConfigV1Alpha1()
	doc.Config.Object = legacyEncryption(c.ClusterSecretboxEncryptionSecret, c.ClusterAESCBCEncryptionSecret)
	u.write(doc)
	u.move("cluster.secretboxEncryptionSecret", doc, "config")
	u.move("cluster.aescbcEncryptionSecret", doc, "config")

	last := 0
	if c.ClusterSecretboxEncryptionSecret != "" && c.ClusterAESCBCEncryptionSecret != "" {
		last = 1
	}

	providers := "config.resources[0].providers"
	u.add(doc, index(providers, last+1), "v1alpha1 lets kube-apiserver read what is not encrypted, the document must say so")

	for i := range last + 1 {
		provider := "secretbox"
		if c.ClusterSecretboxEncryptionSecret == "" || i == 1 {
			provider = "aescbc"
		}

		u.add(doc, index(providers, i)+"."+provider+".keys[0].name", "the name that v1alpha1 gives the key")
	}

	return u.validate("cluster.secretboxEncryptionSecret")
}

func legacyEncryption(secretbox, aescbc string) map[string]any {
	var providers []any

	for _, p := range []struct{ provider, name, secret string }{{"secretbox", "key2", secretbox}, {"aescbc", "key1", aescbc}} {
		if p.secret != "" {
			providers = append(providers, map[string]any{p.provider: map[string]any{"keys": []any{map[string]any{"name": p.name, "secret": p.secret}}}})
		}
	}

	providers = append(providers, map[string]any{"identity": map[string]any{}})

	return map[string]any{"resources": []any{map[string]any{"resources": []any{"secrets"}, "providers": providers}}}
}

func resources(r *v1alpha1.ResourcesConfig) k8s.ResourcesConfig {
	if r == nil {
		return k8s.ResourcesConfig{}
	}

	return k8s.ResourcesConfig{Requests: r.Requests, Limits: r.Limits}
}

func apiServer(s *source) *unit {
	c := s.v.ClusterConfig
	from := c.APIServerConfig

	if from == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeAPIServerConfigV1Alpha1()
	doc.PodImage, doc.PodEnv, doc.PodResources, doc.PodCertExtraSANs = from.ContainerImage, from.EnvConfig, resources(from.ResourcesConfig), from.ExtraCertSANs
	doc.PodStartupProbes = new(false)

	if c.ControlPlane != nil && c.ControlPlane.LocalAPIServerPort != 0 {
		doc.PodAPIPort = new(c.ControlPlane.LocalAPIServerPort)
	}

	if from.ContainerImage == "" {
		u.block("cluster.apiServer.image", needsImage, "set cluster.apiServer.image")
	}

	if len(from.ExtraVolumesConfig) > 0 {
		u.block("cluster.apiServer.extraVolumes", "KubeAPIServerConfig has no extra volumes",
			"put what kube-apiserver reads from them into KubeAuthenticationConfig, KubeAuthorizerConfig or KubeAuditPolicyConfig, and remove the volumes")
	}

	auth := k8s.NewKubeAuthenticationConfigV1Alpha1()
	if auth.AuthConfig.Object = authentication(from.ExtraArgsConfig.ToMap()); s.documents[key(auth)] != nil {
		u.block("cluster.apiServer", "the configuration already has "+key(auth), "merge the two by hand")
	}

	doc.PodArgs = maps.Clone(from.ExtraArgsConfig)
	for _, flag := range slices.Sorted(maps.Keys(doc.PodArgs)) {
		switch {
		case slices.Contains(AuthenticationFlags(), flag):
			delete(doc.PodArgs, flag)
		case strings.HasPrefix(flag, "oidc-"), strings.HasPrefix(flag, "authentication-config"), strings.HasPrefix(flag, "authorization-"):
			u.block("cluster.apiServer.extraArgs", "no document says --"+flag, "write it as KubeAuthenticationConfig or KubeAuthorizerConfig by hand, and remove the argument")
		}
	}

	u.write(doc)
	u.write(auth)
	u.add(doc, "startupProbes", "kube-apiserver has no probes with v1alpha1, and has them with the document unless it says no")

	if len(from.ExtraArgsConfig) > len(doc.PodArgs) {
		u.move("cluster.apiServer.extraArgs", auth, "configuration")
	}

	u.add(auth, "configuration", "kube-apiserver authenticates by flags with v1alpha1, and by this file with the document")
	u.move("cluster.apiServer.image", doc, "image")
	u.move("cluster.apiServer.extraArgs", doc, "extraArgs")
	u.move("cluster.apiServer.env", doc, "env")
	u.move("cluster.apiServer.certSANs", doc, "certExtraSANs")
	u.move("cluster.apiServer.resources", doc, "resources")
	u.move("cluster.controlPlane.localAPIServerPort", doc, "apiPort")
	u.drop("cluster.apiServer.disablePodSecurityPolicy", "Kubernetes has no pod security policies any more")
	u.authorizers(from)
	u.admission(from)
	u.clear("cluster.apiServer")

	return u.validate("cluster.apiServer").unique("cluster.apiServer")
}

// authorizers writes the list with those that Talos puts first for v1alpha1.
func (u *unit) authorizers(from *v1alpha1.APIServerConfig) {
	for _, a := range effectiveAuthorizers(u.s.v.K8sAuthorizerConfigs(), true) {
		doc := k8s.NewKubeAuthorizerConfigV1Alpha1()
		doc.MetaName, doc.AuthorizerType, doc.AuthorizerWebhook = a.name, a.kind, meta.Unstructured{Object: a.webhook}
		u.write(doc)

		if i := slices.IndexFunc(from.AuthorizationConfigConfig, func(c *v1alpha1.AuthorizationConfigAuthorizerConfig) bool { return c.AuthorizerName == a.name }); i >= 0 {
			u.move(index("cluster.apiServer.authorizationConfig", i), doc, "")
		} else {
			u.add(doc, "", "v1alpha1 implies the authorizer, documents do not")
		}
	}
}

func (u *unit) admission(from *v1alpha1.APIServerConfig) {
	for i, plugin := range from.AdmissionControlConfig {
		doc := k8s.NewKubeAdmissionControlConfigV1Alpha1()
		doc.MetaName, doc.PluginConfig = plugin.PluginName, plugin.PluginConfiguration
		u.write(doc)
		u.move(index("cluster.apiServer.admissionControl", i), doc, "")
	}

	if len(from.AuditPolicyConfig.Object) > 0 {
		doc := k8s.NewKubeAuditPolicyConfigV1Alpha1()
		doc.AuditConfig = from.AuditPolicyConfig
		u.write(doc)
		u.move("cluster.apiServer.auditPolicy", doc, "configuration")
	}
}

func controllerManager(s *source) *unit {
	from := s.v.ClusterConfig.ControllerManagerConfig
	if from == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeControllerManagerConfigV1Alpha1()
	doc.PodImage, doc.PodArgs, doc.PodEnv, doc.PodResources = from.ContainerImage, from.ExtraArgsConfig, from.EnvConfig, resources(from.ResourcesConfig)

	if !s.v.K8sControllerManagerConfig().Enabled() {
		doc.PodEnabled = new(false)
	}

	u.pod("cluster.controllerManager", doc.PodImage, len(from.ExtraVolumesConfig))
	u.write(doc)
	u.move("cluster.controllerManager.image", doc, "image")
	u.move("cluster.controllerManager.extraArgs", doc, "extraArgs")
	u.move("cluster.controllerManager.env", doc, "env")
	u.move("cluster.controllerManager.resources", doc, "resources")
	u.move("machine.controlPlane.controllerManager", doc, "enabled")
	u.clear("cluster.controllerManager")

	return u.validate("cluster.controllerManager")
}

func scheduler(s *source) *unit {
	from := s.v.ClusterConfig.SchedulerConfig
	if from == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeSchedulerConfigV1Alpha1()
	doc.PodImage, doc.PodArgs, doc.PodEnv, doc.PodResources = from.ContainerImage, from.ExtraArgsConfig, from.EnvConfig, resources(from.ResourcesConfig)
	doc.PodConfig = from.SchedulerConfig

	if !s.v.K8sSchedulerConfig().Enabled() {
		doc.PodEnabled = new(false)
	}

	u.pod("cluster.scheduler", doc.PodImage, len(from.ExtraVolumesConfig))
	u.write(doc)
	u.move("cluster.scheduler.image", doc, "image")
	u.move("cluster.scheduler.extraArgs", doc, "extraArgs")
	u.move("cluster.scheduler.env", doc, "env")
	u.move("cluster.scheduler.resources", doc, "resources")
	u.move("cluster.scheduler.config", doc, "config")
	u.move("machine.controlPlane.scheduler", doc, "enabled")
	u.clear("cluster.scheduler")

	return u.validate("cluster.scheduler")
}

func (u *unit) pod(path, image string, volumes int) {
	if image == "" {
		u.block(path+".image", needsImage, "set "+path+".image")
	}

	if volumes > 0 {
		u.block(path+".extraVolumes", "the document has no extra volumes", "remove the volumes, and the arguments that use them")
	}
}

func proxy(s *source) *unit {
	from := s.v.ClusterConfig.ProxyConfig
	if from == nil {
		return nil
	}

	u, doc := s.unit(), k8s.NewKubeProxyConfigV1Alpha1()
	doc.ProxyImage, doc.ProxyMode = from.ContainerImage, from.ModeConfig

	if !from.Enabled() {
		doc.ProxyEnabled = new(false)
	} else if from.ContainerImage == "" {
		u.block("cluster.proxy.image", needsImage, "set cluster.proxy.image")
	}

	if len(from.ExtraArgsConfig) > 0 && from.Enabled() {
		settings, unknown := ProxySettings(from.ExtraArgsConfig.ToMap())
		if doc.ProxyConfig.Object = settings; unknown != "" {
			u.block("cluster.proxy.extraArgs", "kube-proxy takes --"+unknown+" from the document's config, and there is no known field for it",
				"write the setting as KubeProxyConfig by hand")
		}

		u.move("cluster.proxy.extraArgs", doc, "config")
	} else {
		u.drop("cluster.proxy.extraArgs", "kube-proxy is off")
	}

	u.write(doc)
	u.move("cluster.proxy.disabled", doc, "enabled")
	u.move("cluster.proxy.image", doc, "image")
	u.move("cluster.proxy.mode", doc, "mode")
	u.clear("cluster.proxy")

	return u.validate("cluster.proxy")
}

func coreDNS(s *source) *unit {
	from := s.v.ClusterConfig.CoreDNSConfig
	if from == nil {
		return nil
	}

	u := s.unit()
	if from.Enabled() && from.CoreDNSImage == "" {
		u.drop("cluster.coreDNS", "CoreDNS is on without its document")

		return u
	}

	doc := k8s.NewKubeCoreDNSConfigV1Alpha1()
	doc.PodEnabled, doc.PodImage = new(from.Enabled()), from.CoreDNSImage
	u.write(doc)
	u.move("cluster.coreDNS.disabled", doc, "enabled")
	u.move("cluster.coreDNS.image", doc, "image")

	return u.validate("cluster.coreDNS")
}

func inlineManifests(s *source) *unit {
	u := s.unit()

	for i, m := range s.v.ClusterConfig.ClusterInlineManifests {
		doc := k8s.NewKubeInlineManifestConfigV1Alpha1()
		doc.MetaName, doc.ManifestSpec = m.InlineManifestName, m.InlineManifestContents
		u.write(doc)
		u.move(index("cluster.inlineManifests", i), doc, "")
	}

	u.clear("cluster.inlineManifests")

	return u.validate("cluster.inlineManifests").unique("cluster.inlineManifests")
}

func externalManifests(s *source) *unit {
	c := s.v.ClusterConfig
	u := s.unit()
	u.manifests("cluster.extraManifests", c.ExtraManifests, c.ExtraManifestHeaders)

	// The headers are also those of the CNI's manifests.
	if len(c.CNI().CNIUrls) == 0 || s.wants("KubeNetworkConfig") {
		for _, d := range u.docs {
			u.move("cluster.extraManifestHeaders", d, "headers")
		}

		u.clear("cluster.extraManifestHeaders")
	}

	u.clear("cluster.extraManifests")

	return u.validate("cluster.extraManifests").unique("cluster.extraManifests")
}
