package migrate

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/cel"
	"github.com/siderolabs/talos/pkg/machinery/cel/celenv"
	coreconfig "github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/types/block"
	"github.com/siderolabs/talos/pkg/machinery/config/types/cluster"
	"github.com/siderolabs/talos/pkg/machinery/config/types/cri"
	"github.com/siderolabs/talos/pkg/machinery/config/types/meta"
	"github.com/siderolabs/talos/pkg/machinery/config/types/network"
	"github.com/siderolabs/talos/pkg/machinery/config/types/runtime"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"

	"github.com/talosmate/talosmate/internal/lists"
)

// subsystems lists the parts of v1alpha1 in the order of their documents.
func subsystems() []subsystem {
	return slices.Concat([]subsystem{
		{"v1.14", []string{"UnattendedInstallConfig"}, install},
		{"v1.12", []string{"HostnameConfig"}, hostname},
		{"v1.12", []string{"ResolverConfig"}, resolver},
		{"v1.12", []string{"StaticHostConfig"}, hosts},
		{"v1.12", []string{"TimeSyncConfig"}, timeSync},
		{"v1.12", linkKinds(), links},
		{"v1.13", []string{"KubeSpanConfig"}, kubeSpan},
		{"v1.14", []string{"DiscoveryIdentityConfig"}, identity},
		{"v1.14", []string{"DiscoveryServiceConfig"}, discovery},
		{"v1.12", []string{"RegistryMirrorConfig"}, mirrors},
		{"v1.12", []string{"RegistryAuthConfig", "RegistryTLSConfig"}, registries},
		{"v1.12", []string{"VolumeConfig"}, encryption},
		{"v1.13", []string{"EnvironmentConfig"}, environment},
		{"v1.14", []string{"SysctlConfig"}, sysctls},
		{"v1.14", []string{"SysfsConfig"}, sysfs},
		{"v1.14", []string{"KernelModuleConfig"}, kernelModules},
		{"v1.14", []string{"UdevRulesConfig"}, udev},
		{"v1.14", []string{"ImageCacheConfig"}, imageCache},
		{"v1.14", []string{"CRIBaseRuntimeSpecConfig"}, baseRuntimeSpec},
	}, kubernetes())
}

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// install says the disk as an expression. The installer takes the kernel arguments from the UKI where there is a document
// (Talos, cmd/installer/cmd/installer/install.go).
func install(s *source) *unit {
	from := s.v.MachineConfig.MachineInstall
	if from == nil {
		return nil
	}

	u, doc := s.unit(), runtime.NewUnattendedInstallConfigV1Alpha1()
	doc.Installer.Image, doc.ProvisioningSpec.Wipe = from.InstallImage, new(from.Zero())

	match, err := from.DiskMatchExpression()

	switch {
	case err != nil:
		u.block("machine.install.diskSelector", "no document says the selector: "+err.Error(), "select the disk by another field")
	case match != nil:
		doc.ProvisioningSpec.DiskSelector.Match = *match
	case from.InstallDisk != "":
		if doc.ProvisioningSpec.DiskSelector.Match, err = diskExpression(from.InstallDisk); err != nil {
			u.block("machine.install.disk", "no expression says the disk: "+err.Error(), "name the disk as /dev/NAME")
		}
	default:
		u.block("machine.install", "UnattendedInstallConfig must name a disk", "set machine.install.disk, or remove the section")
	}

	if from.InstallImage == "" {
		u.block("machine.install.image", "Talos chooses the installer of its own release while v1alpha1 names none, and the document must name one", "set machine.install.image")
	}

	if len(from.InstallExtraKernelArgs) > 0 {
		u.block("machine.install.extraKernelArgs", "with the document the kernel arguments come from the image", "put them into the node's schematic, and remove them here")
	}

	if len(from.InstallExtensions) > 0 {
		u.block("machine.install.extensions", "extensions come from the image", "put them into the node's schematic, and remove them here")
	}

	if from.LegacyBIOSSupport() {
		u.block("machine.install.legacyBIOSSupport", "the document cannot say it", "keep machine.install on this machine")
	}

	if !from.GrubUseUKICmdline() && len(from.InstallExtraKernelArgs) == 0 {
		u.block("machine.install.grubUseUKICmdline", "with the document GRUB takes the kernel arguments from the image, and without this setting from v1alpha1",
			"set machine.install.grubUseUKICmdline to true, if the image has the kernel arguments that the node needs")
	}

	u.write(doc)
	u.move("machine.install.disk", doc, "provisioning.diskSelector.match")
	u.move("machine.install.diskSelector", doc, "provisioning.diskSelector.match")
	u.move("machine.install.image", doc, "installer.image")
	u.move("machine.install.wipe", doc, "provisioning.wipe")

	if from.InstallWipe == nil {
		u.add(doc, "provisioning.wipe", "the disk is not wiped with v1alpha1, and is with the document unless it says no")
	}

	u.drop("machine.install.grubUseUKICmdline", "it is always so with the document")
	u.drop("machine.install.bootloader", "Talos has ignored it since 1.10")
	u.drop("machine.install.legacyBIOSSupport", "it is off")
	u.clear("machine.install")

	return u.validate("machine.install")
}

func diskExpression(disk string) (cel.Expression, error) {
	text := fmt.Sprintf("disk.dev_path == %q", disk)
	if strings.HasPrefix(disk, "/dev/disk/") {
		text = fmt.Sprintf("%q in disk.symlinks", disk)
	}

	return cel.ParseBooleanExpression(text, celenv.DiskLocator())
}

func hostname(s *source) *unit {
	u, doc := s.unit(), network.NewHostnameConfigV1Alpha1()
	name, stable := s.v.Hostname(), s.v.AutoHostname() == nethelpers.AutoHostnameKindStable

	switch {
	case name != "":
		doc.ConfigHostname = name
	case stable:
		doc.ConfigAuto = new(nethelpers.AutoHostnameKindStable)
	default:
		u.drop("machine.features.stableHostname", "it is off, and there is no document")

		return u
	}

	u.write(doc)
	u.move("machine.network.hostname", doc, "hostname")

	if name == "" {
		u.move("machine.features.stableHostname", doc, "auto")
	} else {
		u.drop("machine.features.stableHostname", "the hostname is set")
	}

	return u.validate("machine.network.hostname")
}

// resolver extends a document that is already there, which 1.14 adds the DNS cache of the host to.
func resolver(s *source) *unit {
	u, doc := s.unit(), network.NewResolverConfigV1Alpha1()

	for _, d := range s.provider.Documents() {
		if there, ok := d.(*network.ResolverConfigV1Alpha1); ok {
			doc = there.DeepCopy()
		}
	}

	if n := s.v.MachineConfig.MachineNetwork; n != nil {
		for _, text := range n.NameServers {
			address, err := netip.ParseAddr(text)
			if err != nil {
				u.block("machine.network.nameservers", "a name server is not an address", "correct it first")

				continue
			}

			doc.ResolverNameservers = append(doc.ResolverNameservers, network.NameserverConfig{Address: meta.Addr{Addr: address}})
		}

		if n.Searches != nil {
			doc.ResolverSearchDomains.SearchDomains = n.Searches
		}

		if n.NetworkDisableSearchDomain != nil {
			doc.ResolverSearchDomains.SearchDisableDefault = n.NetworkDisableSearchDomain
		}

		u.move("machine.network.nameservers", doc, "nameservers")
		u.move("machine.network.searchDomains", doc, "searchDomains.domains")
		u.move("machine.network.disableSearchDomain", doc, "searchDomains.disableDefault")
	}

	if dns := s.v.NetworkHostDNSConfig(); dns != nil && s.o.To >= "v1.14" {
		if dns.HostDNSEnabled() {
			from := s.v.MachineConfig.MachineFeatures.HostDNSSupport
			doc.ResolverHostDNS = network.HostDNSConfig{
				HostDNSEnabled: from.HostDNSConfigEnabled, HostDNSForwardKubeDNSToHost: from.HostDNSForwardKubeDNSToHost,
				HostDNSResolveMemberNames: from.HostDNSResolveMemberNames,
			}
			u.move("machine.features.hostDNS", doc, "hostDNS")
		} else {
			u.drop("machine.features.hostDNS", "the DNS cache of the host is off without the document")
		}
	}

	if len(u.moves) > 0 {
		u.write(doc)
	}

	return u.validate("machine.network")
}

func hosts(s *source) *unit {
	if s.v.MachineConfig.MachineNetwork == nil {
		return nil
	}

	u := s.unit()

	for i, from := range s.v.MachineConfig.MachineNetwork.ExtraHostEntries {
		doc := network.NewStaticHostConfigV1Alpha1(from.HostIP)
		doc.Hostnames = from.HostAliases
		u.write(doc)
		u.move(index("machine.network.extraHostEntries", i)+".aliases", doc, "hostnames")
		u.move(index("machine.network.extraHostEntries", i)+".ip", doc, "name")
	}

	u.clear("machine.network.extraHostEntries")

	return u.validate("machine.network.extraHostEntries").unique("machine.network.extraHostEntries")
}

func timeSync(s *source) *unit {
	from := s.v.MachineConfig.MachineTime
	if from == nil {
		return nil
	}

	u, doc := s.unit(), network.NewTimeSyncConfigV1Alpha1()
	doc.TimeBootTimeout = from.TimeBootTimeout

	if from.TimeDisabled != nil {
		doc.TimeEnabled = new(!*from.TimeDisabled)
	}

	if len(from.TimeServers) > 0 {
		doc.TimeNTP = &network.NTPConfig{Servers: from.TimeServers}
	}

	u.write(doc)
	u.move("machine.time.disabled", doc, "enabled")
	u.move("machine.time.servers", doc, "ntp.servers")
	u.move("machine.time.bootTimeout", doc, "bootTimeout")
	u.clear("machine.time")

	return u.validate("machine.time")
}

func kubeSpan(s *source) *unit {
	if s.v.MachineConfig.MachineNetwork == nil || s.v.MachineConfig.MachineNetwork.NetworkKubeSpan == nil {
		return nil
	}

	from := s.v.MachineConfig.MachineNetwork.NetworkKubeSpan
	u, doc := s.unit(), network.NewKubeSpanV1Alpha1()
	doc.ConfigEnabled, doc.ConfigMTU = from.KubeSpanEnabled, from.KubeSpanMTU
	doc.ConfigAdvertiseKubernetesNetworks, doc.ConfigAllowDownPeerBypass = from.KubeSpanAdvertiseKubernetesNetworks, from.KubeSpanAllowDownPeerBypass
	doc.ConfigHarvestExtraEndpoints = from.KubeSpanHarvestExtraEndpoints

	if f := from.KubeSpanFilters; f != nil {
		doc.ConfigFilters = &network.KubeSpanFiltersConfig{
			ConfigEndpoints: f.KubeSpanFiltersEndpoints,
			ConfigExcludeAdvertisedNetworks: lists.Map(f.ExcludeAdvertisedNetworks(), func(p netip.Prefix) meta.Prefix {
				return meta.Prefix{Prefix: p}
			}),
		}

		if len(f.KubeSpanFiltersExcludeAdvertisedNetworks) != len(doc.ConfigFilters.ConfigExcludeAdvertisedNetworks) {
			u.block("machine.network.kubespan.filters.excludeAdvertisedNetworks", "a network is not a subnet", "correct it first")
		}
	}

	u.write(doc)

	for _, field := range []string{"enabled", "advertiseKubernetesNetworks", "allowDownPeerBypass", "harvestExtraEndpoints", "mtu", "filters"} {
		u.move("machine.network.kubespan."+field, doc, field)
	}

	u.clear("machine.network.kubespan")

	return u.validate("machine.network.kubespan")
}

func discovery(s *source) *unit {
	if s.v.ClusterConfig == nil || s.v.ClusterConfig.ClusterDiscoveryConfig == nil {
		return nil
	}

	u, from := s.unit(), s.v.ClusterConfig.ClusterDiscoveryConfig
	if !from.Enabled() {
		u.drop("cluster.discovery", "discovery is off without a document")

		return u
	}

	if from.Registries().Kubernetes().Enabled() {
		u.block("cluster.discovery.registries.kubernetes", "no document says that the Kubernetes registry is on",
			"set cluster.discovery.registries.kubernetes.disabled to true: Talos deprecates the registry")
	}

	service := from.DiscoveryRegistries.RegistryService
	if !service.Enabled() {
		u.drop("cluster.discovery", "no registry is on")

		return u
	}

	endpoint, err := url.Parse(service.Endpoint())
	if err != nil {
		u.block("cluster.discovery.registries.service.endpoint", "it is not a URL", "correct it first")
	}

	doc := cluster.NewDiscoveryServiceConfigV1Alpha1("legacy", endpoint)
	u.write(doc)

	if service.RegistryEndpoint == "" {
		u.add(doc, "endpoint", "v1alpha1 implies the endpoint, the document names it")
	}

	u.move("cluster.discovery.enabled", doc, "")
	u.move("cluster.discovery.registries.service.endpoint", doc, "endpoint")
	u.drop("cluster.discovery.registries.service.disabled", "the service is on")
	u.drop("cluster.discovery.registries.kubernetes", "the registry is off without v1alpha1")
	u.clear("cluster.discovery")

	return u.validate("cluster.discovery")
}

func identity(s *source) *unit {
	c := s.v.ClusterConfig
	if c == nil || c.ClusterID == "" && c.ClusterSecret == "" {
		return nil
	}

	u, doc := s.unit(), cluster.NewDiscoveryIdentityConfigV1Alpha1(c.ClusterID, c.ClusterSecret)

	if d := discovery(s); d != nil && (len(d.blocked) > 0 || len(d.docs) > 0 && !s.wants("DiscoveryServiceConfig")) {
		u.block("cluster.id", "cluster.discovery needs it in v1alpha1, and stays there", "migrate DiscoveryServiceConfig too")
	}

	u.write(doc)
	u.move("cluster.id", doc, "clusterID")
	u.move("cluster.secret", doc, "clusterSecret")

	return u.validate("cluster.id")
}

func mirrors(s *source) *unit {
	u := s.unit()
	from := s.v.MachineConfig.MachineRegistries.RegistryMirrors

	for _, host := range slices.Sorted(maps.Keys(from)) {
		path := join("machine.registries.mirrors", host)
		doc := cri.NewRegistryMirrorConfigV1Alpha1(host)

		if m := from[host]; m != nil {
			doc.RegistrySkipFallback = m.MirrorSkipFallback

			for _, text := range m.MirrorEndpoints {
				endpoint, err := url.Parse(text)
				if err != nil {
					u.block(path, "an endpoint is not a URL", "correct it first")

					continue
				}

				doc.RegistryEndpoints = append(doc.RegistryEndpoints, cri.RegistryEndpoint{EndpointURL: meta.URL{URL: endpoint}, EndpointOverridePath: m.MirrorOverridePath})
			}
		}

		u.write(doc)
		u.move(path, doc, "")
	}

	u.clear("machine.registries.mirrors")

	return u.validate("machine.registries.mirrors")
}

func registries(s *source) *unit {
	u := s.unit()
	from := s.v.MachineConfig.MachineRegistries.RegistryConfig

	for _, host := range slices.Sorted(maps.Keys(from)) {
		r := from[host]
		if r == nil {
			continue
		}

		if a := r.RegistryAuth; a != nil {
			doc := cri.NewRegistryAuthConfigV1Alpha1(host)
			doc.RegistryUsername, doc.RegistryPassword, doc.RegistryAuth, doc.RegistryIdentityToken = a.RegistryUsername, a.RegistryPassword, a.RegistryAuth, a.RegistryIdentityToken
			u.write(doc)
			u.move(join("machine.registries.config", host, "auth"), doc, "")
		}

		if t := r.RegistryTLS; t != nil {
			doc := cri.NewRegistryTLSConfigV1Alpha1(host)
			doc.TLSCA, doc.TLSInsecureSkipVerify = string(t.TLSCA), t.TLSInsecureSkipVerify

			if id := t.TLSClientIdentity; id != nil {
				doc.TLSClientIdentity = &meta.CertificateAndKey{Cert: string(id.Crt), Key: string(id.Key)}
			}

			u.write(doc)
			u.move(join("machine.registries.config", host, "tls"), doc, "")
		}
	}

	u.clear("machine.registries.config")

	return u.validate("machine.registries.config")
}

// encryption names the provider, which v1alpha1 implies.
func encryption(s *source) *unit {
	from := s.v.MachineConfig.MachineSystemDiskEncryption
	if from == nil {
		return nil
	}

	u := s.unit()

	for _, v := range []struct {
		path, name string
		from       *v1alpha1.EncryptionConfig
	}{
		{"machine.systemDiskEncryption.state", constants.StatePartitionLabel, from.StatePartition},
		{"machine.systemDiskEncryption.ephemeral", constants.EphemeralPartitionLabel, from.EphemeralPartition},
	} {
		if v.from == nil {
			continue
		}

		doc := s.volume(v.name)
		if !doc.EncryptionSpec.IsZero() {
			u.block(v.path, "the configuration already has the encryption in "+key(doc), "remove one of the two")
		}

		doc.EncryptionSpec = block.EncryptionSpec{
			EncryptionProvider: v.from.Provider(), EncryptionCipher: v.from.EncryptionCipher, EncryptionKeySize: v.from.EncryptionKeySize,
			EncryptionBlockSize: v.from.EncryptionBlockSize, EncryptionPerfOptions: v.from.EncryptionPerfOptions,
			EncryptionKeys: lists.Map(v.from.EncryptionKeys, encryptionKey),
		}

		u.write(doc)
		u.secure(v.path, doc)

		if v.from.EncryptionProvider == "" {
			u.add(doc, "encryption.provider", "v1alpha1 implies the provider, the document names it")
		}

		u.move(v.path, doc, "encryption")
	}

	u.clear("machine.systemDiskEncryption")

	return u.validate("machine.systemDiskEncryption")
}

// secure keeps programs on EPHEMERAL executable: a document without the field mounts it noexec from 1.14 on.
func (u *unit) secure(path string, doc *block.VolumeConfigV1Alpha1) {
	_, there := u.s.documents[key(doc)]

	switch {
	case there || doc.MetaName != constants.EphemeralPartitionLabel:
	case u.s.o.To < "v1.14":
		u.block(path, "a document for EPHEMERAL makes Talos 1.14 mount it noexec, and the releases before cannot keep it from that",
			"migrate the encryption with --to v1.14")
	default:
		doc.MountSpec.MountSecure = new(false)
		u.add(doc, "mount.secure", "Talos mounts EPHEMERAL with exec while no document names it, and without once one does")
	}
}

// volume is the document of a system volume, the one that is there or a new one.
func (s *source) volume(name string) *block.VolumeConfigV1Alpha1 {
	for _, d := range s.provider.Documents() {
		if there, ok := d.(*block.VolumeConfigV1Alpha1); ok && there.MetaName == name {
			return there.DeepCopy()
		}
	}

	doc := block.NewVolumeConfigV1Alpha1()
	doc.MetaName = name

	return doc
}

func encryptionKey(from *v1alpha1.EncryptionKey) block.EncryptionKey {
	out := block.EncryptionKey{KeySlot: from.KeySlot}

	if k := from.KeyStatic; k != nil {
		out.KeyStatic = &block.EncryptionKeyStatic{KeyData: k.KeyData}
	}

	if from.KeyNodeID != nil {
		out.KeyNodeID = &block.EncryptionKeyNodeID{}
	}

	if k := from.KeyKMS; k != nil {
		out.KeyKMS = &block.EncryptionKeyKMS{KMSEndpoint: k.Endpoint()}
	}

	if k := from.KeyTPM; k != nil {
		out.KeyTPM = &block.EncryptionKeyTPM{TPMCheckSecurebootStatusOnEnroll: k.TPMCheckSecurebootStatusOnEnroll}
	}

	return out
}

// simple moves one field to one document.
func (s *source) simple(path string, d coreconfig.Document, to string) *unit {
	u := s.unit()
	u.write(d)
	u.move(path, d, to)

	return u.validate(path)
}

func environment(s *source) *unit {
	if len(s.v.MachineConfig.MachineEnv) == 0 {
		return nil
	}

	doc := runtime.NewEnvironmentV1Alpha1()
	doc.EnvironmentVariables = s.v.MachineConfig.MachineEnv

	return s.simple("machine.env", doc, "variables")
}

func sysctls(s *source) *unit {
	if len(s.v.MachineConfig.MachineSysctls) == 0 {
		return nil
	}

	doc := runtime.NewSysctlConfigV1Alpha1()
	doc.Params = s.v.MachineConfig.MachineSysctls

	return s.simple("machine.sysctls", doc, "params")
}

func sysfs(s *source) *unit {
	if len(s.v.MachineConfig.MachineSysfs) == 0 {
		return nil
	}

	doc := runtime.NewSysfsConfigV1Alpha1()
	doc.Params = s.v.MachineConfig.MachineSysfs

	return s.simple("machine.sysfs", doc, "params")
}

func kernelModules(s *source) *unit {
	if s.v.MachineConfig.MachineKernel == nil {
		return nil
	}

	u := s.unit()

	for i, from := range s.v.MachineConfig.MachineKernel.KernelModules {
		doc := runtime.NewKernelModuleConfigV1Alpha1(from.ModuleName)
		doc.ModuleParameters = from.ModuleParameters
		u.write(doc)
		u.move(index("machine.kernel.modules", i), doc, "")
	}

	u.clear("machine.kernel")

	return u.validate("machine.kernel.modules").unique("machine.kernel.modules")
}

func udev(s *source) *unit {
	if s.v.MachineConfig.MachineUdev == nil || len(s.v.MachineConfig.MachineUdev.UdevRules) == 0 {
		return nil
	}

	doc := runtime.NewUdevRulesConfigV1Alpha1()
	doc.UdevRules = s.v.MachineConfig.MachineUdev.UdevRules

	return s.simple("machine.udev.rules", doc, "rules")
}

func imageCache(s *source) *unit {
	from := s.v.ImageCacheConfig()
	if from == nil {
		return nil
	}

	if !from.LocalEnabled() {
		u := s.unit()
		u.drop("machine.features.imageCache", "the image cache is off without its document")

		return u
	}

	doc := cri.NewImageCacheConfigV1Alpha1()
	doc.LocalConfig.ConfigEnabled = new(true)

	return s.simple("machine.features.imageCache.localEnabled", doc, "local.enabled")
}

func baseRuntimeSpec(s *source) *unit {
	from := s.v.MachineConfig.MachineBaseRuntimeSpecOverrides
	if len(from.Object) == 0 {
		return nil
	}

	doc := cri.NewCRIBaseRuntimeSpecConfigV1Alpha1()
	doc.OverridesConfig = from

	return s.simple("machine.baseRuntimeSpecOverrides", doc, "overrides")
}
