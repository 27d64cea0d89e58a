package generate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	machinery "github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/generate"
	"github.com/talosmate/talosmate/internal/ops/validate"
)

func secretsFile(t *testing.T, version string) string {
	t.Helper()

	raw, err := generate.Secrets(version, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "secrets.yaml")
	if err = os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestFilesEqualMachinerys(t *testing.T) {
	t.Parallel()

	for version, contract := range map[string]*config.VersionContract{"v1.12": config.TalosVersion1_12, "v1.13": config.TalosVersion1_13, "v1.14": config.TalosVersion1_14} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			path := secretsFile(t, version)

			got, err := generate.Files(generate.Input{
				Cluster: "prod", Endpoint: "https://10.0.0.1:6443", Secrets: path, TalosVersion: version, KubernetesVersion: "v1.35.4",
				InstallDisk: "/dev/sda", InstallImage: "example.com/installer:x", DNSDomain: "cluster.local", Discovery: true, Docs: true, Examples: true,
			}, generate.Types())
			if err != nil {
				t.Fatal(err)
			}

			bundle, err := secrets.LoadBundle(path)
			if err != nil {
				t.Fatal(err)
			}

			in, err := machinery.NewInput("prod", "https://10.0.0.1:6443", "1.35.4", machinery.WithSecretsBundle(bundle),
				machinery.WithVersionContract(contract), machinery.WithInstallDisk("/dev/sda"), machinery.WithInstallImage("example.com/installer:x"),
				machinery.WithDNSDomain("cluster.local"), machinery.WithClusterDiscovery(true))
			if err != nil {
				t.Fatal(err)
			}

			for name, kind := range map[string]machine.Type{generate.ControlPlane: machine.TypeControlPlane, generate.Worker: machine.TypeWorker} {
				cfg, err := in.Config(kind)
				if err != nil {
					t.Fatal(err)
				}

				want, err := cfg.EncodeBytes(encoder.WithComments(encoder.CommentsAll))
				if err != nil {
					t.Fatal(err)
				}

				if string(got[name]) != string(want) {
					t.Errorf("%s differs from machinery's:\n%s", name, got[name])
				}

				if _, err = configloader.NewFromBytes(got[name]); err != nil {
					t.Errorf("%s: %v", name, err)
				}

				if r := validate.Config(got[name], "metal", true); !r.Valid || len(r.Errors) > 0 {
					t.Errorf("%s is not valid: %+v", name, r)
				}
			}

			if len(got[generate.Talosconfig]) == 0 {
				t.Error("no talosconfig")
			}
		})
	}
}

// The installer is that of the release that is asked for, and from 1.14 on the install section is a document.
func TestInstallerOfTheRelease(t *testing.T) {
	t.Parallel()

	const factory = "factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:"

	for version, c := range map[string]struct {
		image    string
		document bool
	}{
		"":             {factory + "v1.14.1", true},
		"v1.14":        {factory + "v1.14.1", true},
		"1.14":         {factory + "v1.14.1", true},
		"v1.14.0-rc.1": {factory + "v1.14.0-rc.1", true},
		"v1.13":        {"ghcr.io/siderolabs/installer:v1.13.9", false},
		"v1.12.3":      {"ghcr.io/siderolabs/installer:v1.12.3", false},
	} {
		t.Run("version "+version, func(t *testing.T) {
			t.Parallel()

			files, err := generate.Files(generate.Input{
				Cluster: "prod", Endpoint: "https://10.0.0.1:6443", Secrets: secretsFile(t, version), TalosVersion: version, KubernetesVersion: "v1.35.4",
				InstallDisk: "/dev/sda", DNSDomain: "cluster.local", Discovery: true,
			}, []string{generate.Worker})
			if err != nil {
				t.Fatal(err)
			}

			text := string(files[generate.Worker])
			if !strings.Contains(text, "image: "+c.image+"\n") {
				t.Errorf("want the installer %s in\n%s", c.image, text)
			}

			if strings.Contains(text, "kind: UnattendedInstallConfig") != c.document || strings.Contains(text, "\n    install:\n") == c.document {
				t.Errorf("want the install section as a document: %t\n%s", c.document, text)
			}
		})
	}
}

func TestFilesRefuse(t *testing.T) {
	t.Parallel()

	good := generate.Input{Cluster: "c", Endpoint: "https://x:6443", KubernetesVersion: "1.35.4"}

	for name, change := range map[string]func(*generate.Input){
		"endpoint":        func(in *generate.Input) { in.Endpoint = "10.0.0.1" },
		"http":            func(in *generate.Input) { in.Endpoint = "http://10.0.0.1:6443" },
		"version":         func(in *generate.Input) { in.TalosVersion = "latest" },
		"missing secrets": func(in *generate.Input) { in.Secrets = "/nonexistent" },
		"mirror":          func(in *generate.Input) { in.RegistryMirrors = []string{"x"} },
		"patch":           func(in *generate.Input) { in.Patches = []string{"@/nonexistent"} },
	} {
		in := good
		change(&in)

		if _, err := generate.Files(in, generate.Types()); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := generate.Files(good, []string{"init"}); errs.ExitCode(err) != errs.Usage {
		t.Errorf("type: %v", err)
	}
}
