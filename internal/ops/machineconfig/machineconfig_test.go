package machineconfig_test

import (
	"encoding/base64"
	"fmt"
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
		"v1alpha1 change machine.network.interfaces [eth0, eth1] [eth1, eth0]",
		"v1alpha1 change machine.network.interfaces[interface=eth0].mtu 1500 9000",
		"v1alpha1 change machine.network.nameservers [1.1.1.1, 8.8.8.8] [8.8.8.8, 1.1.1.1]",
		`v1alpha1 remove machine.nodeLabels."example.com/zone" one `,
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

// Documents and fields of a newer Talos than this program's machinery.
const configNewer = configBefore + `---
apiVersion: v1alpha1
kind: FutureConfig
image: example.com/future:v1
servers: [10.96.0.10]
config: {}
---
apiVersion: v1alpha1
kind: KubeNetworkConfig
dnsDomain: cluster.local
podSubnets: [10.244.0.0/16]
serviceSubnets: [10.96.0.0/12]
future: true
---
apiVersion: v1alpha1
kind: KubeAPIServerConfig
certExtraSANs: [one.example.com]
future: {}
---
# a comment that stays
apiVersion: v1alpha1
kind: ResolverConfig
hostDNS:
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
		{name: "other documents keep their text", patch: "machine: {sysctls: {vm.swappiness: '1'}}", want: "# a comment that stays"},
		{name: "an unknown document", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nimage: other:v1\nconfig: {size: 250}", want: "size: 250", gone: "future:v1"},
		{name: "an unknown field of a known document", patch: "apiVersion: v1alpha1\nkind: ResolverConfig\nfuture: {a: 1}", want: "hostDNS:\n    enabled: true\nfuture: {a: 1}"},
		{name: "a known field", patch: "apiVersion: v1alpha1\nkind: ResolverConfig\nhostDNS: {enabled: false}", want: "enabled: false", gone: "enabled: true"},
		{name: "a new document", patch: "apiVersion: v1alpha1\nkind: OtherFutureConfig\nparams: {a: b}", want: "kind: OtherFutureConfig"},
		{name: "a document is deleted", patch: "apiVersion: v1alpha1\nkind: FutureConfig\n$patch: delete", want: "ResolverConfig", gone: "FutureConfig"},
		{name: "a field is deleted", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nservers:\n  $patch: delete", want: "FutureConfig", gone: "10.96.0.10"},
		{name: "a field of a new document is deleted", patch: "apiVersion: v1alpha1\nkind: OtherFutureConfig\na: b\nservers:\n  $patch: delete", want: "OtherFutureConfig\na: b", gone: "$patch"},
		{name: "both kinds in one patch", patch: "machine: {sysctls: {x: '1'}}\n---\napiVersion: v1alpha1\nkind: FutureConfig\nimage: y", want: "image: y", gone: "future:v1"},
		{name: "a list that is not known", patch: "apiVersion: v1alpha1\nkind: FutureConfig\nservers: [1.1.1.1]", fails: "FutureConfig.servers"},
		{name: "a list that is replaced", patch: "apiVersion: v1alpha1\nkind: KubeNetworkConfig\npodSubnets: [10.9.0.0/16]", want: "podSubnets: [10.9.0.0/16]", gone: "10.244.0.0"},
		{name: "a list that is appended", patch: "apiVersion: v1alpha1\nkind: KubeAPIServerConfig\ncertExtraSANs: [two.example.com]", want: "certExtraSANs: [one.example.com, two.example.com]"},
		{name: "what is not there is deleted", patch: "apiVersion: v1alpha1\nkind: NoSuchConfig\n$patch: delete", want: "FutureConfig"},
		{name: "an unknown key of the main document", patch: "machine:\n  sysctls: {a: b}\n  kublet: {x: y}", fails: "line 3: unknown key machine.kublet.x"},
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

func TestPatchesThatAreNone(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct{ patch, want string }{
		"nothing":         {"", "patch 1 is empty"},
		"a comment":       {"# only a comment\n", "patch 1 is empty"},
		"separators":      {"---\n---\n", "patch 1 is empty"},
		"no operations":   {"[]", "patch 1 is empty"},
		"an empty map":    {"{}", "patch 1 is empty"},
		"a scalar":        {"text", "line 1 is not a mapping"},
		"encrypted":       {"machine:\n  token: ENC[AES256_GCM,data:QUJD,type:str]\nsops:\n  version: 3.10.2\n", "encrypted with SOPS"},
		"the same twice":  {"apiVersion: v1alpha1\nkind: ResolverConfig\n---\napiVersion: v1alpha1\nkind: ResolverConfig\n", "lines 1 and 4 are both the document ResolverConfig"},
		"the main twice":  {"machine: {type: worker}\n---\ncluster: {}\n", "lines 1 and 3 are both the document v1alpha1"},
		"only operations": {"- op: add\n---\nmachine: {}\n", "line 1 is not a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, err := machineconfig.LoadPatches([][]byte{[]byte(c.patch)})
			if errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// Blank values in lists, which a reader without checks follows as null pointers.
func TestPatchNamesTheLineOfABlankValue(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct{ patch, want string }{
		"interfaces": {"machine:\n  network:\n    interfaces:\n      -\n", "line 4"},
		"routes":     {"machine:\n  network:\n    interfaces:\n      - interface: eth0\n        routes:\n          -\n", "line 6"},
		"vlans":      {"machine:\n  network:\n    interfaces:\n      - interface: eth0\n        vlans:\n          - null\n", "line 6"},
		"peers":      {"machine:\n  network:\n    interfaces:\n      - interface: eth0\n        wireguard:\n          peers: [null]\n", "line 6"},
		"keys":       {"machine:\n  systemDiskEncryption:\n    state:\n      provider: luks2\n      keys:\n        - ~\n", "line 6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			patches, err := machineconfig.LoadPatches([][]byte{[]byte(c.patch)})
			if err == nil {
				_, err = patches.Apply([]byte(configBefore), false)
			}

			if errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "null") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestPatchDeletesOnlyWhatIsThere(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct{ patch, want, gone string }{
		"absent, with a name":    {"apiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\n$patch: delete\n", "type: worker", "UserVolumeConfig"},
		"absent, without a name": {"apiVersion: v1alpha1\nkind: ResolverConfig\n$patch: delete\n", "type: worker", "ResolverConfig"},
		"absent, and a change":   {"machine:\n  nodeLabels:\n    rack: a1\n---\napiVersion: v1alpha1\nkind: UserVolumeConfig\nname: scratch\n$patch: delete\n", "rack: a1", "UserVolumeConfig"},
		"and makes it anew":      {"apiVersion: v1alpha1\nkind: ResolverConfig\n$patch: delete\n---\napiVersion: v1alpha1\nkind: ResolverConfig\nhostDNS: {enabled: true}\n", "kind: ResolverConfig", "$patch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			patches, err := machineconfig.LoadPatches([][]byte{[]byte(c.patch)})
			if err != nil {
				t.Fatal(err)
			}

			out, err := patches.Apply([]byte(configBefore), false)
			if err != nil || !strings.Contains(string(out), c.want) || strings.Contains(string(out), c.gone) {
				t.Errorf("error %v, want %q and no %q in\n%s", err, c.want, c.gone, out)
			}
		})
	}
}

// Writing a document adds fields without a value; a patch does not.
func TestPatchAddsOnlyWhatWasAsked(t *testing.T) {
	t.Parallel()

	const before = "version: v1alpha1\nmachine:\n    type: worker\ncluster:\n    token: abc.def\n"

	patches, err := machineconfig.LoadPatches([][]byte{[]byte("machine: {sysctls: {a: b}}")})
	if err != nil {
		t.Fatal(err)
	}

	out, err := patches.Apply([]byte(before), false)
	if err != nil {
		t.Fatal(err)
	}

	if want := "version: v1alpha1\nmachine:\n    type: worker\n    sysctls:\n        a: b\ncluster:\n    token: abc.def\n"; string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestDiffIgnoresWhatWritingAdds(t *testing.T) {
	t.Parallel()

	const (
		have = "version: v1alpha1\nmachine: {type: worker, registries: {}, certSANs: []}\ncluster: {controlPlane: null}\n" +
			"---\napiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog0\ntimeout: 1m0s\n"
		want = "version: v1alpha1\nmachine: {type: worker}\ncluster: {}\n" +
			"---\napiVersion: v1alpha1\nkind: WatchdogTimerConfig\ndevice: /dev/watchdog0\ntimeout: 60s\n"
		order = "---\napiVersion: v1alpha1\nkind: ResolverConfig\nnameservers: [{address: 10.0.0.%d}, {address: 10.0.0.%d}]\n"
		empty = "---\napiVersion: v1alpha1\nkind: ResolverConfig\nsearchDomains: {domains: []}\n"
		unset = "---\napiVersion: v1alpha1\nkind: ResolverConfig\nsearchDomains: {}\n"
	)

	for name, c := range map[string]struct {
		from, to string
		changes  int
	}{
		"noise":                     {have, want, 0},
		"the order of a list":       {want + fmt.Sprintf(order, 1, 2), want + fmt.Sprintf(order, 2, 1), 1},
		"an empty list that counts": {want + unset, want + empty, 1},
	} {
		from, err := machineconfig.Parse([]byte(c.from))
		if err != nil {
			t.Fatal(err)
		}

		to, err := machineconfig.Parse([]byte(c.to))
		if err != nil {
			t.Fatal(err)
		}

		if got := machineconfig.Diff(from, to, false); len(got) < c.changes || (c.changes == 0 && len(got) > 0) {
			t.Errorf("%s: %+v", name, got)
		}
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
