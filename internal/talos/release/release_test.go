package release_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/talos/release"
)

func TestUpgradePath(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		from, to            string
		supported, fallback bool
	}{
		{"v1.13.8", "v1.13.9", true, false},
		{"v1.12.9", "v1.13.9", true, false},
		{"v1.11.0", "v1.13.9", true, false},
		{"v1.10.4", "v1.13.9", false, false},
		{"v1.12.0", "v1.14.0", true, true},
		{"v1.11.0", "v1.14.0", false, true},
		{"v1.13.9", "v1.12.9", true, false},
		{"v1.14.0", "v1.12.9", false, false},
		{"v1.15.0", "v1.14.0", true, true},
		{"v1.16.0", "v1.14.0", false, true},
	} {
		p, err := release.UpgradePath(c.from, c.to)
		if err != nil || p.Supported != c.supported || p.Fallback != c.fallback {
			t.Errorf("%s to %s: %+v, %v", c.from, c.to, p, err)
		}
	}

	if _, err := release.UpgradePath("v1.13.9", "latest"); err == nil {
		t.Error("latest is no version")
	}
}

func TestKubernetesRange(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		kubernetes, talos string
		supported         bool
	}{
		{"1.36.3", "v1.13.9", true},
		{"1.37.0", "v1.13.9", false},
		{"1.30.0", "v1.13.9", false},
		{"1.37.0", "v1.14.0", true},
		{"1.31.0", "v1.14.0", false},
	} {
		p, err := release.KubernetesRange(c.kubernetes, c.talos)
		if err != nil || p.Supported != c.supported {
			t.Errorf("Kubernetes %s on %s: %+v, %v", c.kubernetes, c.talos, p, err)
		}
	}
}
