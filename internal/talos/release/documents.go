package release

import "github.com/blang/semver/v4"

// Documents is what a minor release added to the machine configuration: kinds of documents, and fields of kinds that
// were there before, by path. In a path * is each element of a list.
type Documents struct {
	Minor  uint64
	Kinds  []string
	Fields map[string][]string
}

// DocumentsAfter returns what the releases after a version added, oldest first: what a node of this version does not
// know. A version that does not parse knows all. Source: the calls of registry.Register in pkg/machinery/config at
// v1.12.9, v1.13.9 and v1.14.1, and the types beside them.
func DocumentsAfter(tag string) []Documents {
	v, err := semver.ParseTolerant(tag)
	if err != nil {
		return nil
	}

	added := []Documents{
		{Minor: 13, Kinds: []string{
			"BlackholeRouteConfig", "EnvironmentConfig", "ExternalVolumeConfig", "ImageVerificationConfig", "KubeSpanConfig",
			"RoutingRuleConfig", "TCPProbeConfig", "VRFConfig",
		}},
		{Minor: 14, Kinds: []string{
			"BGPInstanceConfig", "CRIBaseRuntimeSpecConfig", "CRICustomizationConfig", "ContainerConfig",
			"DiscoveryIdentityConfig", "DiscoveryServiceConfig", "EtcFileConfig", "FilesystemScrubConfig",
			"FilesystemTrimConfig", "HTTPProbeConfig", "ImageCacheConfig", "KernelModuleConfig", "KubeAPIServerCAConfig",
			"KubeAPIServerConfig", "KubeAdmissionControlConfig", "KubeAggregatorCAConfig", "KubeAuditPolicyConfig",
			"KubeAuthenticationConfig", "KubeAuthorizerConfig", "KubeClusterConfig", "KubeControllerManagerConfig",
			"KubeCoreDNSConfig", "KubeCredentialProviderConfig", "KubeEtcdEncryptionConfig", "KubeExternalManifestConfig",
			"KubeFlannelCNIConfig", "KubeInlineManifestConfig", "KubeNetworkConfig", "KubeNodeConfig", "KubePrismConfig",
			"KubeProxyConfig", "KubeSchedulerConfig", "KubeServiceAccountConfig", "KubeStaticPodConfig",
			"KubeTalosAPIAccessConfig", "KubeletConfig", "LVMLogicalVolumeConfig", "LVMVolumeGroupConfig", "RAIDArrayConfig",
			"SecurityProfileConfig", "SysctlConfig", "SysfsConfig", "UdevRulesConfig", "UnattendedInstallConfig", "VethConfig",
		}, Fields: map[string][]string{
			"VolumeConfig":         {"filesystem", "scrub", "trim", "mount.disableAccessTime", "encryption.allowDiscards"},
			"UserVolumeConfig":     {"scrub", "trim", "filesystem.xfs", "encryption.allowDiscards"},
			"ExistingVolumeConfig": {"scrub", "trim"},
			"RawVolumeConfig":      {"encryption.allowDiscards"},
			"SwapVolumeConfig":     {"encryption.allowDiscards"},
			"DHCPv4Config":         {"ignoreRoutes"},
			"TimeSyncConfig":       {"ntp.useNTS"},
			"ResolverConfig":       {"hostDNS", "nameservers.*.protocol", "nameservers.*.tlsServerName"},
		}},
	}

	for len(added) > 0 && (v.Major > 1 || v.Minor >= added[0].Minor) {
		added = added[1:]
	}

	return added
}
