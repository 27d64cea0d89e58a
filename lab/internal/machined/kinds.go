package machined

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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

// fieldsIn114 are the fields that Talos 1.14 added to kinds that 1.13.9 knows, by path; * is each element of a list.
func fieldsIn114(kind string) []string {
	switch kind {
	case "VolumeConfig":
		return []string{"filesystem", "scrub", "trim", "mount.disableAccessTime", "encryption.allowDiscards"}
	case "UserVolumeConfig":
		return []string{"scrub", "trim", "filesystem.xfs", "encryption.allowDiscards"}
	case "ExistingVolumeConfig":
		return []string{"scrub", "trim"}
	case "RawVolumeConfig", "SwapVolumeConfig":
		return []string{"encryption.allowDiscards"}
	case "DHCPv4Config":
		return []string{"ignoreRoutes"}
	case "TimeSyncConfig":
		return []string{"ntp.useNTS"}
	case "ResolverConfig":
		return []string{"hostDNS", "nameservers.*.protocol", "nameservers.*.tlsServerName"}
	default:
		return nil
	}
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

// unknownTo returns what the decoder of a Talos version says about the first document that it does not know: of a kind
// that it does not register, or with a field that the kind has only later. Text that is not YAML is left to the loader.
func unknownTo(atLeast func(minor int) bool, text []byte) error {
	var unknown error

	_ = documents(text, func(doc *yaml.Node, id document, line int) error { //nolint:errcheck // the loader reports it
		switch {
		case unknown != nil:
		case !atLeast(13) && newIn113(id.Kind), !atLeast(14) && newIn114(id.Kind):
			unknown = fmt.Errorf("error decoding document %s/%s/%s (line %d): %q %q: not registered",
				id.APIVersion, id.Kind, id.Name, line, id.Kind, id.APIVersion)
		case !atLeast(14):
			for _, path := range fieldsIn114(id.Kind) {
				if has(doc.Content[0], strings.Split(path, ".")) {
					unknown = fmt.Errorf("error decoding document %s/%s/%s (line %d): unknown keys found during decoding:\n%s",
						id.APIVersion, id.Kind, id.Name, line, path)
				}
			}
		}

		return nil
	})

	return unknown
}

// has reports whether a document has a field at a path.
func has(node *yaml.Node, path []string) bool {
	if len(path) == 0 {
		return true
	}

	switch node.Kind {
	case yaml.SequenceNode:
		return path[0] == "*" && slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return has(n, path[1:]) })
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == path[0] && has(node.Content[i+1], path[1:]) {
				return true
			}
		}
	}

	return false
}
