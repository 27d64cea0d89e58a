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
		{"v1.12.0", "v1.14.0", true, false},
		{"v1.11.0", "v1.14.0", false, false},
		{"v1.13.0", "v1.15.0", true, true},
		{"v1.12.0", "v1.15.0", false, true},
		{"v1.13.9", "v1.12.9", true, false},
		{"v1.14.0", "v1.12.9", false, false},
		{"v1.15.0", "v1.14.0", true, false},
		{"v1.16.0", "v1.14.0", false, false},
		{"v1.16.0", "v1.15.0", true, true},
		{"v1.17.0", "v1.15.0", false, true},
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
		{"1.38.0", "v1.15.0", true},
		{"1.32.0", "v1.15.0", false},
	} {
		p, err := release.KubernetesRange(c.kubernetes, c.talos)
		if err != nil || p.Supported != c.supported {
			t.Errorf("Kubernetes %s on %s: %+v, %v", c.kubernetes, c.talos, p, err)
		}
	}
}

func TestLatest(t *testing.T) {
	t.Parallel()

	for version, want := range map[string]string{
		"v1.14": "v1.14.1", "1.14": "v1.14.1", "v1.13": "v1.13.9", "v1.12": "v1.12.9", "v1.13.2": "v1.13.2", "v1.15": "v1.15.0", "v1.14.0-rc.1": "v1.14.0-rc.1",
	} {
		if got := release.Latest(version); got != want {
			t.Errorf("%s is %s, want %s", version, got, want)
		}
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()

	for version, want := range map[string]bool{"v1.11.9": false, "v1.12.0": true, "v1.13.9": true, "v1.14.1": true, "v1.15.0": true, "v1.16.0": false} {
		if release.Supported(version) != want {
			t.Errorf("%s: want %t", version, want)
		}
	}
}
