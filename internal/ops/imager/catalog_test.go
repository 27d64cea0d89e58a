package imager_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/imager"
)

func TestPickExtension(t *testing.T) {
	t.Parallel()

	const base = "mirror.lan/talos"

	digest := "sha256:" + strings.Repeat("a", 64)
	catalog := []imager.Extension{{Name: "zfs", Tag: "2.4.1-v1.13.9", Digest: digest, Image: base + "/zfs:2.4.1-v1.13.9"}}

	for wanted, want := range map[string]string{
		"zfs": "found", "siderolabs/zfs": "found", "zfs:2.4.1-v1.13.9": "found", "zfs@" + digest: "found",
		"zfs:2.4.1-v1.13.9@" + digest:           "found",
		"ghcr.io/siderolabs/zfs":                "found",
		base + "/zfs:2.4.1-v1.13.9":             "found",
		"ghcr.io/siderolabs/zfs:2.2.0-v1.9.0":   "refused",
		"zfs:latest":                            "refused",
		"other.lan/zfs:latest":                  "refused",
		"zfs@sha256:" + strings.Repeat("b", 64): "refused",
		"zf":                                    "refused",
		"other.lan/zfs:1":                       "foreign",
		"other.lan:5000/zfs":                    "foreign",
		"ghcr.io/someone/zfs@" + digest:         "foreign",
	} {
		_, found, err := imager.PickExtension(catalog, base, "v1.13.9", wanted)

		got := "foreign"
		if err != nil {
			got = "refused"
		} else if found {
			got = "found"
		}

		if got != want {
			t.Errorf("%s is %s (%v), want %s", wanted, got, err, want)
		}
	}
}

func TestCompatible(t *testing.T) {
	t.Parallel()

	for constraint, want := range map[string]bool{
		`">= v1.5.0"`: true, `">= 1.13.0"`: true, `">= v1.14.0"`: false, `">= v1.5.0 < v1.13.0"`: false, `"v1.13.9"`: true, `""`: true,
	} {
		manifest := "metadata:\n  compatibility:\n    talos:\n      version: " + constraint + "\n"

		for _, version := range []string{"v1.13.9", "v1.13.9-rc.1"} {
			v, err := imager.ParseVersion(version)
			if err != nil {
				t.Fatal(err)
			}

			if _, fits, err := imager.Compatible([]byte(manifest), v); err != nil || fits != want {
				t.Errorf("%s with %s: %v, %v", version, constraint, fits, err)
			}
		}
	}

	v, _ := imager.ParseVersion("v1.13.9")
	for _, bad := range []string{"metadata: [", "metadata:\n  compatibility:\n    talos:\n      version: whatever\n"} {
		if _, _, err := imager.Compatible([]byte(bad), v); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}

func TestTierOf(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"[core] This system\nextension": "core|This system extension", "No tier": "unknown|No tier", "": "unknown|",
	} {
		if tier, rest := imager.TierOf(text); tier+"|"+rest != want {
			t.Errorf("%q: %s|%s", text, tier, rest)
		}
	}
}
