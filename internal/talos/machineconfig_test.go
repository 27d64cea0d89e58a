package talos

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/crypto/x509"
)

func TestConfigFacts(t *testing.T) {
	t.Parallel()

	ends := time.Date(2036, 1, 2, 3, 4, 5, 0, time.UTC)

	ca, err := x509.NewSelfSignedCertificateAuthority(x509.NotAfter(ends), x509.ECDSA(true))
	if err != nil {
		t.Fatal(err)
	}

	crt := base64.StdEncoding.EncodeToString(ca.CrtPEM)

	for name, tt := range map[string]struct {
		text        string
		image       string
		args        []string
		authorities []string
		noInstall   bool
	}{
		"control plane": {
			fmt.Sprintf("machine:\n  ca: {crt: %s, key: secret}\n  install: {image: a/b:v1, extraKernelArgs: [x=1, y]}\n"+
				"cluster:\n  ca: {crt: %[1]s}\n  aggregatorCA: {crt: %[1]s}\n  etcd: {ca: {crt: %[1]s}}\n---\nkind: HostnameConfig\n", crt),
			"a/b:v1",
			[]string{"x=1", "y"},
			[]string{"machine.ca", "cluster.ca", "cluster.aggregatorCA", "cluster.etcd.ca"},
			false,
		},
		"worker, its document last": {
			fmt.Sprintf("kind: HostnameConfig\n---\nmachine:\n  ca: {crt: %s, key: \"\"}\n  install: {image: c}\ncluster:\n  ca: {crt: bm90aGluZw==}\n", crt),
			"c", nil,
			[]string{"machine.ca"},
			false,
		},
		"arguments come with the image": {"machine: {install: {extraKernelArgs: [x], grubUseUKICmdline: true}}", "", nil, nil, false},
		"documents of 1.14": {
			"machine: {type: controlplane}\n---\nkind: UnattendedInstallConfig\ninstaller: {image: d/e:v1}\n---\nkind: KubeAPIServerCAConfig\nissuingCA:\n  cert: |\n    " +
				strings.ReplaceAll(strings.TrimSpace(string(ca.CrtPEM)), "\n", "\n    ") + "\n",
			"d/e:v1", nil,
			[]string{"KubeAPIServerCAConfig.issuingCA"},
			false,
		},
		"no install section": {"machine: {type: worker}\n---\nkind: HostnameConfig\n", "", nil, nil, true},
		"mirrors": {
			"machine: {install: {}, registries: {mirrors: {ghcr.io: {endpoints: [https://a]}}}}\n---\nkind: RegistryMirrorConfig\nname: '*'\n", "", nil, nil, false,
		},
		"nothing": {"kind: HostnameConfig\n", "", nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := configFacts(tt.text)
			if err != nil || got.InstallImage != tt.image || !slices.Equal(got.DroppedKernelArgs, tt.args) {
				t.Fatalf("%+v: %v", got, err)
			}

			var names []string

			for _, a := range got.Authorities {
				names = append(names, a.Name)

				if !a.NotAfter.Equal(ends) {
					t.Errorf("%s expires at %s", a.Name, a.NotAfter)
				}
			}

			if name == "mirrors" && !slices.Equal(got.Mirrors, []string{"*", "ghcr.io"}) {
				t.Errorf("mirrors %v", got.Mirrors)
			}

			if got.NoInstall != tt.noInstall {
				t.Errorf("no install section: %t", got.NoInstall)
			}

			if !slices.Equal(names, tt.authorities) {
				t.Errorf("authorities %v", names)
			}
		})
	}

	if _, err := configFacts("machine: ["); err == nil {
		t.Error("broken text passes")
	}
}
