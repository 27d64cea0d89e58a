package machineconfig_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
)

// extra are documents and fields with secrets that the generator does not make.
const extra = `---
apiVersion: v1alpha1
kind: WireguardConfig
name: wg1
privateKey: wgPrivate+secret1=
peers:
    - publicKey: notsecret
      presharedKey: wgShared+secret2=
---
apiVersion: v1alpha1
kind: RegistryAuthConfig
name: registry.example.com
username: someone
password: registry-secret3
auth: registry-secret4
identityToken: registry-secret5
---
apiVersion: v1alpha1
kind: VolumeConfig
name: STATE
encryption:
    provider: luks2
    keys:
        - slot: 0
          static:
              passphrase: volume-secret6
---
apiVersion: v1alpha1
kind: SideroLinkConfig
apiUrl: https://siderolink.example.com/?jointoken=link-secret7&x=1
---
apiVersion: v1alpha1
kind: ExtensionServiceConfig
name: tailscale
environment:
    - TS_AUTHKEY=env-secret8
    - TS_ROUTES=10.0.0.0/8
---
apiVersion: v1alpha1
kind: EnvironmentConfig
variables:
    http_proxy: http://user:proxy-secret9@proxy:3128
`

func generated(t *testing.T) (text string, all []string) {
	t.Helper()

	bundle, err := secrets.NewBundle(secrets.NewClock(), config.TalosVersion1_13)
	if err != nil {
		t.Fatal(err)
	}

	in, err := generate.NewInput("prod", "https://10.0.0.1:6443", "1.35.4", generate.WithSecretsBundle(bundle), generate.WithVersionContract(config.TalosVersion1_13))
	if err != nil {
		t.Fatal(err)
	}

	cfg, err := in.Config(machine.TypeControlPlane)
	if err != nil {
		t.Fatal(err)
	}

	raw, err := cfg.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		t.Fatal(err)
	}

	all = []string{
		bundle.Cluster.Secret, bundle.Secrets.BootstrapToken, bundle.Secrets.SecretboxEncryptionSecret, bundle.TrustdInfo.Token,
		base64.StdEncoding.EncodeToString(bundle.Certs.Etcd.Key), base64.StdEncoding.EncodeToString(bundle.Certs.K8s.Key),
		base64.StdEncoding.EncodeToString(bundle.Certs.K8sAggregator.Key), base64.StdEncoding.EncodeToString(bundle.Certs.K8sServiceAccount.Key),
		base64.StdEncoding.EncodeToString(bundle.Certs.OS.Key),
		"wgPrivate+secret1=", "wgShared+secret2=", "registry-secret3", "registry-secret4", "registry-secret5", "volume-secret6",
		"link-secret7", "env-secret8", "proxy-secret9",
	}

	return string(raw) + extra, all
}

func TestRedact(t *testing.T) {
	t.Parallel()

	text, all := generated(t)

	for _, secret := range all {
		if !strings.Contains(text, secret) {
			t.Fatalf("the test's configuration lacks %q", secret)
		}
	}

	cfg, err := machineconfig.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	cfg.Redact()

	out, err := cfg.YAML()
	if err != nil {
		t.Fatal(err)
	}

	for _, secret := range all {
		if strings.Contains(string(out), secret) {
			t.Errorf("shows %q", secret)
		}
	}

	for _, kept := range []string{"TS_ROUTES=10.0.0.0/8", "publicKey: notsecret", "username: someone", "https://10.0.0.1:6443", "@proxy:3128", "slot: 0", "crt: "} {
		if !strings.Contains(string(out), kept) {
			t.Errorf("hides %q", kept)
		}
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	t.Parallel()

	a, secretsA := generated(t)
	b, secretsB := generated(t)
	b = strings.NewReplacer("secret6", "other6", "secret7", "other7", "secret8", "other8", "secret9", "other9").Replace(b)

	from, err := machineconfig.Parse([]byte(a))
	if err != nil {
		t.Fatal(err)
	}

	to, err := machineconfig.Parse([]byte(b))
	if err != nil {
		t.Fatal(err)
	}

	changed := 0

	for _, c := range machineconfig.Diff(from, to, false) {
		if c.Secret {
			changed++
		}

		for _, secret := range append(secretsA, secretsB...) {
			if strings.Contains(c.From+c.To, secret) {
				t.Errorf("%s shows %q", c.Path, secret)
			}
		}

		for _, other := range []string{"other6", "other7", "other8", "other9"} {
			if strings.Contains(c.From+c.To, other) {
				t.Errorf("%s shows %q", c.Path, other)
			}
		}
	}

	if changed < 13 {
		t.Errorf("%d changed secrets are seen", changed)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()

	const from = `version: v1alpha1
machine:
    type: worker # a comment
    certSANs: [a, b]
    nodeLabels: {example.com/zone: one}
    network:
        nameservers: [1.1.1.1, 8.8.8.8]
        interfaces:
            - interface: eth0
              mtu: 1500
            - interface: eth1
              dhcp: true
---
apiVersion: v1alpha1
kind: HostnameConfig
hostname: w-1
`

	const to = `---
apiVersion: v1alpha1
kind: TimeSyncConfig
enabled: true
---
machine:
    network:
        interfaces:
            - {dhcp: true, interface: eth1}
            - {interface: eth0, mtu: 9000}
        nameservers: [8.8.8.8, 1.1.1.1]
    type: "worker"
    certSANs: [b, c]
    nodeLabels: {}
version: v1alpha1
`

	a, err := machineconfig.Parse([]byte(from))
	if err != nil {
		t.Fatal(err)
	}

	b, err := machineconfig.Parse([]byte(to))
	if err != nil {
		t.Fatal(err)
	}

	want := []string{
		"v1alpha1 remove machine.certSANs[a] a ",
		"v1alpha1 add machine.certSANs[c]  c",
		`v1alpha1 remove machine.nodeLabels."example.com/zone" one `,
		"v1alpha1 change machine.network.nameservers [1.1.1.1, 8.8.8.8] [8.8.8.8, 1.1.1.1]",
		"v1alpha1 change machine.network.interfaces[interface=eth0].mtu 1500 9000",
		"v1alpha1 add machine.nodeLabels  {}",
		"HostnameConfig remove apiVersion v1alpha1 ",
		"HostnameConfig remove kind HostnameConfig ",
		"HostnameConfig remove hostname w-1 ",
		"TimeSyncConfig add apiVersion  v1alpha1",
		"TimeSyncConfig add kind  TimeSyncConfig",
		"TimeSyncConfig add enabled  true",
	}

	var got []string
	for _, c := range machineconfig.Diff(a, b, false) {
		got = append(got, c.Document+" "+c.Op+" "+c.Path+" "+c.From+" "+c.To)
	}

	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	if again := machineconfig.Diff(a, a, false); len(again) != 0 {
		t.Errorf("with itself: %v", again)
	}

	if a.Type() != "worker" {
		t.Errorf("type %q", a.Type())
	}
}

// Documents of a newer Talos than this program's machinery: a kind, and a field of a kind, that come after 1.14.
const configNewer = configBefore + `---
apiVersion: v1alpha1
kind: FutureConfig
image: ghcr.io/siderolabs/future:v1.36.0
clusterDNS: [10.96.0.10]
config: {}
---
apiVersion: v1alpha1
kind: ResolverConfig
later:
    enabled: true
`

func TestPatchNewer(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name, patch string
		want, gone  string
		fails       string
	}{
		{name: "a known document", patch: "machine: {sysctls: {vm.swappiness: '1'}}", want: `vm.swappiness: "1"`},
		{name: "an unknown document", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nimage: other:v1\nconfig: {maxPods: 250}", want: "maxPods: 250", gone: "future:v1.36.0"},
		{name: "an unknown field", patch: "apiVersion: v1alpha1\nkind: ResolverConfig\nlater: {enabled: false}", want: "enabled: false", gone: "enabled: true"},
		{name: "a new document", patch: "apiVersion: v1alpha1\nkind: NextConfig\nparams: {a: b}", want: "kind: NextConfig"},
		{name: "a document goes", patch: "apiVersion: v1alpha1\nkind: FutureConfig\n$patch: delete", want: "ResolverConfig", gone: "FutureConfig"},
		{name: "a field goes", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nclusterDNS:\n  $patch: delete", want: "FutureConfig", gone: "clusterDNS"},
		{name: "both kinds in one patch", patch: "machine: {sysctls: {x: '1'}}\n---\napiVersion: v1alpha1\nkind: FutureConfig\nimage: y", want: "image: y", gone: "future:v1.36.0"},
		{name: "a list", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nclusterDNS: [1.1.1.1]", fails: "FutureConfig.clusterDNS"},
		{name: "what is not there goes", patch: "apiVersion: v1alpha1\nkind: NoSuchConfig\n$patch: delete", want: "FutureConfig"},
		{name: "JSON6902", patch: `[{"op": "add", "path": "/machine/sysctls", "value": {}}]`, fails: "JSON6902"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			patches, err := machineconfig.LoadPatches([][]byte{[]byte(c.patch)})
			if err != nil {
				t.Fatal(err)
			}

			for range 2 { // one patch serves several nodes
				out, err := patches.Apply([]byte(configNewer), true)

				switch {
				case c.fails != "":
					if errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), c.fails) {
						t.Errorf("error %v, want %q", err, c.fails)
					}
				case err != nil:
					t.Fatal(err)
				case !strings.Contains(string(out), c.want) || (c.gone != "" && strings.Contains(string(out), c.gone)):
					t.Errorf("want %q and no %q in\n%s", c.want, c.gone, out)
				case !strings.Contains(string(out), "type: worker"):
					t.Errorf("the main document is gone:\n%s", out)
				}
			}
		})
	}
}

func TestPatchOfAKnownTalosStaysStrict(t *testing.T) {
	t.Parallel()

	patches, err := machineconfig.LoadPatches([][]byte{[]byte("apiVersion: v1alpha1\nkind: FutureConfig\nimage: x")})
	if err != nil {
		t.Fatal(err)
	}

	if _, err = patches.Apply([]byte(configBefore), false); errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("error %v", err)
	}
}

func TestJudgeLeavesANewerTalosToTheNode(t *testing.T) {
	t.Parallel()

	for tag, code := range map[string]errs.Code{"v1.13.9": errs.Usage, "v1.14.1": errs.Usage, "v1.15.0": errs.OK} {
		warnings, err := machineconfig.Judge([]byte(configNewer), talos.Version{Tag: tag, Platform: "metal"})
		if errs.ExitCode(err) != code || (err == nil && len(warnings) == 0) {
			t.Errorf("%s: %v, %v", tag, warnings, err)
		}
	}
}

// What a node's release does not know is an error before anything is sent, also where this program knows it.
func TestJudgeByTheNodesRelease(t *testing.T) {
	t.Parallel()

	const vrf = configBefore + "---\napiVersion: v1alpha1\nkind: VRFConfig\nname: vrf0\ntable: \"100\"\n"
	const trim = configBefore + "---\napiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\ntrim:\n    enabled: true\n"

	for _, c := range []struct{ text, tag, want string }{
		{vrf, "v1.12.9", "VRFConfig needs Talos 1.13, this is for v1.12.9"},
		{vrf, "v1.13.9", ""},
		{trim, "v1.13.9", "trim of VolumeConfig needs Talos 1.14, this is for v1.13.9"},
		{trim, "v1.14.1", ""},
	} {
		_, err := machineconfig.Judge([]byte(c.text), talos.Version{Tag: c.tag, Platform: "metal"})

		switch {
		case c.want == "" && err != nil && strings.Contains(err.Error(), "needs Talos"):
			t.Errorf("%s: %v", c.tag, err)
		case c.want != "" && (errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.tag, err, c.want)
		}
	}
}
