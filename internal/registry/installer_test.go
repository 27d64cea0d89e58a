package registry_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/registry"
)

const (
	other  = "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515"
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestParseInstaller(t *testing.T) {
	t.Parallel()

	for ref, want := range map[string]struct {
		parts      registry.Installer
		platform   string
		secureBoot bool
		next       string
	}{
		"factory.talos.dev/metal-installer/" + other + ":v1.13.8": {
			registry.Installer{Registry: "factory.talos.dev", Flavour: "metal-installer", Schematic: other, Version: "v1.13.8"},
			"metal", false, "factory.talos.dev/metal-installer/" + other + ":v1.14.0",
		},
		"factory.talos.dev/metal-installer-secureboot/" + other + ":v1.13.8@" + digest: {
			registry.Installer{
				Registry: "factory.talos.dev", Flavour: "metal-installer-secureboot", Schematic: other, Version: "v1.13.8", Digest: digest,
			},
			"metal", true, "factory.talos.dev/metal-installer-secureboot/" + other + ":v1.14.0",
		},
		"factory.talos.dev/installer/" + other + ":v1.9.5": {
			registry.Installer{Registry: "factory.talos.dev", Flavour: "installer", Schematic: other, Version: "v1.9.5"},
			"", false, "factory.talos.dev/installer/" + other + ":v1.14.0",
		},
		"factory.talos.dev/installer-secureboot/" + other + ":v1.9.5": {
			registry.Installer{Registry: "factory.talos.dev", Flavour: "installer-secureboot", Schematic: other, Version: "v1.9.5"},
			"", true, "factory.talos.dev/installer-secureboot/" + other + ":v1.14.0",
		},
		"10.0.0.5:5000/mirror/factory/digital-ocean-installer/" + other + ":v1.13.8": {
			registry.Installer{
				Registry: "10.0.0.5:5000", Path: "mirror/factory", Flavour: "digital-ocean-installer", Schematic: other, Version: "v1.13.8",
			},
			"digital-ocean", false, "10.0.0.5:5000/mirror/factory/digital-ocean-installer/" + other + ":v1.14.0",
		},
		"ghcr.io/siderolabs/installer:v1.13.8": {
			registry.Installer{Registry: "ghcr.io", Path: "siderolabs/installer", Version: "v1.13.8"},
			"", false, "ghcr.io/siderolabs/installer:v1.14.0",
		},
		"localhost:5000/talos/installer@" + digest: {
			registry.Installer{Registry: "localhost:5000", Path: "talos/installer", Digest: digest},
			"", false, "localhost:5000/talos/installer:v1.14.0",
		},
		"localhost:5000/talos/installer": {
			registry.Installer{Registry: "localhost:5000", Path: "talos/installer"},
			"", false, "localhost:5000/talos/installer:v1.14.0",
		},
	} {
		t.Run(ref, func(t *testing.T) {
			t.Parallel()

			got, err := registry.ParseInstaller(ref)
			if err != nil {
				t.Fatal(err)
			}

			if got != want.parts {
				t.Errorf("got %+v, want %+v", got, want.parts)
			}

			if got.Platform() != want.platform || got.SecureBoot() != want.secureBoot {
				t.Errorf("platform %q secure boot %v", got.Platform(), got.SecureBoot())
			}

			if got.String() != ref {
				t.Errorf("composed again: %s", got)
			}

			if next := got.ForVersion("1.14.0").String(); next != want.next {
				t.Errorf("for 1.14.0: %s, want %s", next, want.next)
			}
		})
	}
}

func TestParseInstallerRefuses(t *testing.T) {
	t.Parallel()

	for _, ref := range []string{"", "UPPER/case:v1", "ghcr.io/siderolabs/installer:v1@sha256:short", "a b"} {
		if got, err := registry.ParseInstaller(ref); err == nil {
			t.Errorf("%q parsed as %+v", ref, got)
		}
	}
}

func TestFactoryInstaller(t *testing.T) {
	t.Parallel()

	for want, got := range map[string]registry.Installer{
		"factory.talos.dev/metal-installer/" + registry.EmptySchematic + ":v1.13.9": registry.FactoryInstaller("", "metal", false, "", "v1.13.9"),
		"factory.talos.dev/aws-installer-secureboot/" + other + ":v1.14.0":          registry.FactoryInstaller("", "aws", true, other, "v1.14.0"),
		"factory.talos.dev/installer/" + other + ":v1.9.0":                          registry.FactoryInstaller("", "", false, other, "v1.9.0"),
		"mirror.lan:5000/factory/metal-installer/" + other + ":v1.13.9":             registry.FactoryInstaller("mirror.lan:5000/factory", "metal", false, other, "v1.13.9"),
	} {
		if got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	stock, _ := registry.ParseInstaller("ghcr.io/siderolabs/installer:v1.13.9")
	if stock.Factory() || stock.WithSchematic(other) != stock {
		t.Error("a stock installer took a schematic")
	}

	made := registry.FactoryInstaller("", "metal", false, "", "v1.13.9").Pinned(digest)
	if made.WithSchematic(other).String() != "factory.talos.dev/metal-installer/"+other+":v1.13.9" {
		t.Errorf("with another schematic: %s", made.WithSchematic(other))
	}
}

func TestFactoryURL(t *testing.T) {
	t.Parallel()

	const rest = "/metal-installer/" + registry.EmptySchematic + ":v1.13.9"

	for reference, want := range map[string]string{
		"factory.talos.dev" + rest:              "https://factory.talos.dev",
		"factory.example.com:8443/talos" + rest: "https://factory.example.com:8443",
		"127.0.0.1:5000" + rest:                 "http://127.0.0.1:5000",
		"ghcr.io/siderolabs/installer:v1.13.9":  "",
	} {
		i, err := registry.ParseInstaller(reference)
		if err != nil || i.FactoryURL() != want {
			t.Errorf("%s: %q, %v", reference, i.FactoryURL(), err)
		}
	}
}
