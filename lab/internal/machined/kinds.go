package machined

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v4"
)

// newIn113 are the kinds of documents that Talos 1.13 registers and 1.12.9 does not.
func newIn113(kind string) bool {
	return slices.Contains([]string{
		"BlackholeRouteConfig", "EnvironmentConfig", "ExternalVolumeConfig", "ImageVerificationConfig",
		"KubeSpanConfig", "RoutingRuleConfig", "TCPProbeConfig", "VRFConfig",
	}, kind)
}

// newIn114 are the kinds of documents that Talos 1.14 registers and 1.13.9 does not.
func newIn114(kind string) bool {
	return slices.Contains([]string{
		"BGPInstanceConfig", "CRIBaseRuntimeSpecConfig", "CRICustomizationConfig", "ContainerConfig",
		"DiscoveryIdentityConfig", "DiscoveryServiceConfig", "EtcFileConfig", "FilesystemScrubConfig",
		"FilesystemTrimConfig", "HTTPProbeConfig", "ImageCacheConfig", "KernelModuleConfig", "KubeAPIServerCAConfig",
		"KubeAPIServerConfig", "KubeAdmissionControlConfig", "KubeAggregatorCAConfig", "KubeAuditPolicyConfig",
		"KubeAuthenticationConfig", "KubeAuthorizerConfig", "KubeClusterConfig", "KubeControllerManagerConfig",
		"KubeCoreDNSConfig", "KubeCredentialProviderConfig", "KubeEtcdEncryptionConfig",
		"KubeExternalManifestConfig", "KubeFlannelCNIConfig", "KubeInlineManifestConfig", "KubeNetworkConfig",
		"KubeNodeConfig", "KubePrismConfig", "KubeProxyConfig", "KubeSchedulerConfig", "KubeServiceAccountConfig",
		"KubeStaticPodConfig", "KubeTalosAPIAccessConfig", "KubeletConfig", "LVMLogicalVolumeConfig",
		"LVMVolumeGroupConfig", "RAIDArrayConfig", "SecurityProfileConfig", "SysctlConfig", "SysfsConfig",
		"UdevRulesConfig", "UnattendedInstallConfig", "VethConfig",
	}, kind)
}

// extendedIn114 are the kinds that have more fields in Talos 1.14 than in 1.13.9.
func extendedIn114(kind string) bool {
	return slices.Contains([]string{
		"VolumeConfig", "UserVolumeConfig", "ExistingVolumeConfig", "RawVolumeConfig", "SwapVolumeConfig", "DHCPv4Config",
		"TimeSyncConfig", "ResolverConfig",
	}, kind)
}

// document is what identifies a document.
type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Name       string `yaml:"name"`
}

// documents decodes each document of a configuration with its first line.
func documents(text []byte, do func(doc *yaml.Node, id document, line int) error) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))

	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}

		var id document

		line := doc.Line
		if len(doc.Content) > 0 {
			line = doc.Content[0].Line
		}

		_ = doc.Decode(&id) //nolint:errcheck // another form has no kind

		if err := do(&doc, id, line); err != nil {
			return err
		}
	}
}

// registeredIn112 returns the error of the first document of a kind that Talos 1.12 does not register. Text that is not
// YAML is left to the loader.
func registeredIn112(text []byte) error {
	var unknown error

	_ = documents(text, func(_ *yaml.Node, id document, line int) error { //nolint:errcheck // the loader reports it
		if unknown == nil && newIn113(id.Kind) {
			unknown = fmt.Errorf("error decoding document %s/%s/%s (line %d): %q %q: not registered",
				id.APIVersion, id.Kind, id.Name, line, id.Kind, id.APIVersion)
		}

		return nil
	})

	return unknown
}
