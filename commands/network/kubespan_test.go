package network_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestKubeSpan(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "kubespan.off", Args: []string{"network", "kubespan", "-n", "n1,n4", "-o", "json"}},
		{Name: "kubespan.off.v1.13.9", Version: "talos-v1.13.9", Args: []string{"network", "kubespan", "-n", "10.5.0.5"}},
		{
			Name: "kubespan.partial",
			Args: []string{"network", "kubespan", "-n", "n3,n4", "-o", "json"}, Code: 4,
			Stderr: []string{`cannot list KubeSpanPeerSpecs.kubespan.talos.dev on 10.5.0.4 (n3)`},
		},
	})
}
