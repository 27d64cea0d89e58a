package machineconfig_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

func TestRisk(t *testing.T) {
	t.Parallel()

	for _, c := range []struct{ document, path, want string }{
		{"v1alpha1", "machine.network.interfaces[interface=eth0].addresses", "network"},
		{"v1alpha1", "machine.networkx", ""},
		{"v1alpha1", "machine.certSANs[a]", "certificates"},
		{"v1alpha1", "cluster.apiServer.certSANs[a]", "certificates"},
		{"v1alpha1", "machine.ca.crt", "certificates"},
		{"v1alpha1", `machine.sysctls."net.ipv4.ip_forward"`, "network"},
		{"v1alpha1", `machine.sysctls."vm.swappiness"`, ""},
		{"v1alpha1", "machine.kubelet.image", ""},
		{"LinkConfig/eth0", "routes[0].gateway", "network"},
		{"NetworkRuleConfig/x", "ingress", "network"},
		{"KubeSpanConfig", "enabled", "network"},
		{"ResolverConfig", "nameservers", "network"},
		{"TrustedRootsConfig/x", "certificates", "certificates"},
		{"KubeAPIServerCAConfig", "issuingCA.cert", "certificates"},
		{"KubeletConfig", "nodeIP.validSubnets", "network"},
		{"KubeletConfig", "image", ""},
		{"SysctlConfig", `params."net.core.somaxconn"`, "network"},
		{"SysctlConfig", `params."vm.swappiness"`, ""},
		{"VolumeConfig/EPHEMERAL", "provisioning.maxSize", ""},
		{"OfAFutureRelease/x", "a", "unknown"},
	} {
		if got := (machineconfig.Change{Document: c.document, Path: c.path}).Risk(); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.document, c.path, got, c.want)
		}
	}
}
