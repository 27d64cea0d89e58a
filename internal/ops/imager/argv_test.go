package imager_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

// Every profile of every version for both architectures, as a user other than root runs it with docker.
func TestArgv(t *testing.T) {
	t.Parallel()

	keys := t.TempDir()

	for _, name := range []string{"uki-signing-key.pem", "uki-signing-cert.pem", "pcr-signing-key.pem"} {
		if err := os.WriteFile(filepath.Join(keys, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	for _, version := range []string{"v1.12.9", "v1.13.9", "v1.14.0-rc.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			v, err := imager.ParseVersion(version)
			if err != nil {
				t.Fatal(err)
			}

			var out strings.Builder

			for _, p := range imager.Profiles(v) {
				for _, arch := range []string{"amd64", "arm64"} {
					b := imager.Build{TalosVersion: version, Profile: p.Name, Arch: arch}.Complete("")
					if p.SecureBoot {
						b.SecureBoot = &imager.SecureBoot{Keys: keys}
					}

					argv, err := imager.Argv(b, "docker", "1000:1000")
					if err != nil {
						t.Fatal(err)
					}

					line := strings.ReplaceAll(strings.Join(argv, " "), keys, "/keys")
					fmt.Fprintf(&out, "%s %s → %s\n  %s\n", p.Name, arch, p.Product(arch), strings.ReplaceAll(line, strings.Repeat("d", 64), "DIGEST"))
				}
			}

			golden.Assert(t, "argv."+version, []byte(out.String()))
		})
	}
}

// The imager writes the same names (pkg/imager/profile/profile.go: OutputPath).
func TestProduct(t *testing.T) {
	t.Parallel()

	v, err := imager.ParseVersion("v1.14.0")
	if err != nil {
		t.Fatal(err)
	}

	for profile, want := range map[string]string{
		"iso": "metal-amd64.iso", "secureboot-iso": "metal-amd64-secureboot.iso", "metal": "metal-amd64.raw.zst",
		"secureboot-metal-uki": "metal-amd64-secureboot-uki.efi", "installer": "installer-amd64.tar",
		"secureboot-installer": "installer-amd64-secureboot.tar", "gcp": "gcp-amd64.raw.tar.gz", "azure": "azure-amd64.vhd.zst",
		"vmware": "vmware-amd64.ova", "digital-ocean": "digital-ocean-amd64.raw.gz",
	} {
		p, err := imager.FindProfile(v, profile)
		if err != nil || p.Product("amd64") != want {
			t.Errorf("%s makes %s, %v, want %s", profile, p.Product("amd64"), err, want)
		}
	}
}

func TestProfilesOfEachVersion(t *testing.T) {
	t.Parallel()

	// Counted in pkg/imager/profile/default.go at the releases' tags.
	for version, want := range map[string]int{"v1.12.9": 24, "v1.13.9": 24, "v1.14.0-rc.1": 32, "1.14.2": 32} {
		v, err := imager.ParseVersion(version)
		if err != nil {
			t.Fatal(err)
		}

		if got := imager.Profiles(v); len(got) != want {
			t.Errorf("%s has %d profiles, want %d", version, len(got), want)
		}
	}

	for _, bad := range []string{"", "latest", "v1.9.5", "1.13", "v1.13.9@x"} {
		if _, err := imager.ParseVersion(bad); err == nil {
			t.Errorf("%q is a version", bad)
		}
	}
}
