package impact

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// fakeNode is a node as the facts read it.
type fakeNode struct {
	version    string
	config     string
	extensions []string
	dhcp       []string
	k8sName    string
	fail       map[string]error // By call.
}

func (n fakeNode) Version(context.Context) (talos.Version, error) {
	return talos.Version{Tag: n.version, Platform: "metal"}, n.fail["version"]
}

func (n fakeNode) System(context.Context) (talos.System, error) {
	var out talos.System
	for _, e := range n.extensions {
		out.Extensions = append(out.Extensions, talos.Extension{Name: e, Version: "v1"})
	}

	return out, n.fail["system"]
}

func (n fakeNode) KubernetesName(context.Context) (string, error) { return n.k8sName, n.fail["name"] }

func (n fakeNode) MachineConfig(context.Context) ([]byte, error) {
	return []byte(n.config), n.fail["config"]
}

func (n fakeNode) Resources(context.Context, string, string, ...string) ([]talos.Resource, error) {
	out := []talos.Resource{{Spec: map[string]any{"operator": "vip", "linkName": "eth9"}}}
	for _, link := range n.dhcp {
		out = append(out, talos.Resource{Spec: map[string]any{"operator": "dhcp4", "linkName": link}})
	}

	return out, n.fail["resources"]
}

// fakeKubernetes is the Kubernetes API.
type fakeKubernetes struct {
	pods                []string
	apis                []kube.DeprecatedAPI
	podsErr, metricsErr error
}

func (k fakeKubernetes) FlexVolumePods(context.Context) ([]string, error) { return k.pods, k.podsErr }

func (k fakeKubernetes) DeprecatedAPIs(context.Context) ([]kube.DeprecatedAPI, error) {
	return k.apis, k.metricsErr
}

// fakeFleet is a cluster.
type fakeFleet struct {
	nodes         []fakeNode
	kubernetes    fakeKubernetes
	kubernetesErr error
	extensionsErr error
	asked         []string
}

func (f *fakeFleet) cluster() Cluster {
	return Cluster{
		Nodes: func(ctx context.Context, ask func(context.Context, Reads) (Node, error)) []talos.Outcome[Node] {
			var out []talos.Outcome[Node]

			for i, n := range f.nodes {
				o := talos.Outcome[Node]{Target: talos.Target{Address: fmt.Sprintf("10.0.0.%d", i+1), Hostname: fmt.Sprintf("n%d", i+1), Type: target.ControlPlane}}
				o.Value, o.Err = ask(ctx, n)
				out = append(out, o)
			}

			return out
		},
		Kubernetes: func(context.Context) (Kubernetes, error) {
			f.asked = append(f.asked, "kubernetes")

			return f.kubernetes, f.kubernetesErr
		},
		Extensions: func(_ context.Context, version string) ([]string, error) {
			f.asked = append(f.asked, "extensions of "+version)

			return []string{"siderolabs/iscsi-tools", "siderolabs/multipath-tools", "siderolabs/nvidia-container-toolkit-lts"}, f.extensionsErr
		},
	}
}

func (f *fakeFleet) check(t *testing.T, to string) Result {
	t.Helper()

	res, err := Check(t.Context(), f.cluster(), to)
	if err != nil {
		t.Fatal(err)
	}

	return res
}

func finding(t *testing.T, r Result, id string) Finding {
	t.Helper()

	for _, f := range r.Facts {
		if f.ID == id {
			return f
		}
	}

	t.Fatalf("no fact %s", id)

	return Finding{}
}

const worker = "machine: {type: worker}\n"

// cases are, for each fact, clusters that have it, with what shows it, and clusters that do not.
func cases() map[string]struct {
	has   map[string]fakeFleet // By what shows it.
	lacks []fakeFleet
} {
	one := func(config string) fakeFleet { return fakeFleet{nodes: []fakeNode{{config: config}}} }
	etcd := func(name, value string) fakeFleet {
		return one("cluster: {etcd: {extraArgs: {" + name + ": " + value + "}}}")
	}
	with := func(config string, extensions ...string) fakeFleet {
		return fakeFleet{nodes: []fakeNode{{config: config, extensions: extensions}}}
	}
	kubernetes := func(k fakeKubernetes) fakeFleet {
		return fakeFleet{nodes: []fakeNode{{config: worker, k8sName: "n1"}}, kubernetes: k}
	}
	rules := func(ports string) fakeFleet {
		return one("apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: etcd.in\nportSelector: {ports: [" + ports + "], protocol: tcp}\n")
	}

	type fleets = map[string]fakeFleet

	return map[string]struct {
		has   map[string]fakeFleet
		lacks []fakeFleet
	}{
		"extensions-not-built": {
			fleets{"extension zfs": with(worker, "zfs", "iscsi-tools")}, []fakeFleet{with(worker, "iscsi-tools", "siderolabs/multipath-tools"), with(worker)},
		},
		"kubernetes-apis-removed": {
			fleets{"flowschemas.v1beta3.flowcontrol.apiserver.k8s.io, removed in 1.32": kubernetes(fakeKubernetes{apis: []kube.DeprecatedAPI{
				{Name: "flowschemas.v1beta3.flowcontrol.apiserver.k8s.io", RemovedRelease: "1.32", RemovedMinor: 32},
			}})},
			[]fakeFleet{kubernetes(fakeKubernetes{}), kubernetes(fakeKubernetes{apis: []kube.DeprecatedAPI{
				{Name: "componentstatuses.v1"}, {Name: "x.v1.y", RemovedRelease: "1.50", RemovedMinor: 50},
			}}), one(worker)},
		},
		"nvidia-cdi": {
			fleets{"extension nvidia-container-toolkit-lts": with(worker, "nvidia-container-toolkit-lts")}, []fakeFleet{with(worker, "nvidia-open-gpu-kernel-modules-lts")},
		},
		"nameservers-replace": {
			fleets{
				"machine.network.nameservers[0]":        one("machine: {network: {nameservers: [10.0.0.1]}}"),
				"ResolverConfig.nameservers[0].address": one("kind: ResolverConfig\nnameservers: [{address: '2001:db8::1'}]"),
			},
			[]fakeFleet{one(worker), one("machine: {network: {nameservers: [10.0.0.1, '2001:db8::1']}}")},
		},
		"arguments-refused": {
			fleets{
				"cluster.apiServer.extraArgs.tls-min-version":    one("cluster: {apiServer: {extraArgs: {tls-min-version: VersionTLS12}}}"),
				"cluster.etcd.extraArgs.tls-min-version":         etcd("tls-min-version", "TLS1.2"),
				"cluster.etcd.extraArgs.listen-client-http-urls": etcd("listen-client-http-urls", "['https://0.0.0.0:2390']"),
			},
			[]fakeFleet{one(worker), one("cluster: {scheduler: {extraArgs: {tls-min-version: VersionTLS12}}}")},
		},
		"etcd-cipher-suites": {
			fleets{"cluster.etcd.extraArgs.cipher-suites": etcd("cipher-suites", "TLS_AES_128_GCM_SHA256")}, []fakeFleet{etcd("election-timeout", "'5000'")},
		},
		"tls13-minimum": {
			fleets{"cluster.apiServer.extraArgs.tls-cipher-suites": one("cluster: {apiServer: {extraArgs: {tls-cipher-suites: TLS_RSA_WITH_AES_128_CBC_SHA}}}")},
			[]fakeFleet{one("cluster: {apiServer: {extraArgs: {v: '2'}}}")},
		},
		"etcd-experimental-flags": {
			fleets{"cluster.etcd.extraArgs.experimental-max-learners": etcd("experimental-max-learners", "'2'")},
			[]fakeFleet{etcd("max-learners", "'2'"), one("cluster: {etcd: {image: 'registry.k8s.io/etcd:v3.6.9', extraArgs: {experimental-max-learners: '2'}}}")},
		},
		"etcd-image-old": {
			fleets{"cluster.etcd.image": one("cluster: {etcd: {image: 'gcr.io/etcd-development/etcd:v3.5.21'}}")},
			[]fakeFleet{one("cluster: {etcd: {image: 'registry.k8s.io/etcd:3.7.1'}}"), one(worker)},
		},
		"etcd-metrics-port": {
			fleets{"cluster.etcd.extraArgs.listen-metrics-urls is not set": one("machine: {type: init}")},
			[]fakeFleet{one(worker), one("machine: {type: controlplane}\ncluster: {etcd: {extraArgs: {listen-metrics-urls: ['http://0.0.0.0:2381']}}}")},
		},
		"etcd-http-port-open": {
			fleets{
				"NetworkRuleConfig/etcd.in.portSelector.ports[0]": rules("2379-2380"),
				"NetworkRuleConfig/etcd.in.portSelector.ports[1]": rules("6443, 2379"),
			},
			[]fakeFleet{rules("2379-2383"), rules("2379, 2383"), rules("6443"), one("machine: {type: controlplane}")},
		},
		"flexvolume-path": {
			fleets{
				"machine.kubelet.extraMounts[0].source":                      one("machine: {kubelet: {extraMounts: [{source: /usr/libexec/kubernetes/x, destination: /x}]}}"),
				"machine.kubelet.extraMounts[0].destination":                 one("machine: {kubelet: {extraMounts: [{source: /var/x, destination: /usr/libexec/kubernetes/x}]}}"),
				"machine.kubelet.extraArgs.volume-plugin-dir":                one("machine: {kubelet: {extraArgs: {volume-plugin-dir: /usr/libexec/kubernetes/x}}}"),
				"machine.kubelet.extraConfig.volumePluginDir":                one("machine: {kubelet: {extraConfig: {volumePluginDir: /usr/libexec/kubernetes/x}}}"),
				"cluster.controllerManager.extraArgs.flex-volume-plugin-dir": one("cluster: {controllerManager: {extraArgs: {flex-volume-plugin-dir: /var/x}}}"),
			},
			[]fakeFleet{one("machine: {kubelet: {extraMounts: [{source: /var/x, destination: /var/x}], extraArgs: {volume-plugin-dir: /var/x}}}")},
		},
		"flexvolume-pods": {
			fleets{"kube-system/calico-node-x volume flexvol-driver-host": kubernetes(fakeKubernetes{pods: []string{"kube-system/calico-node-x volume flexvol-driver-host"}})},
			[]fakeFleet{kubernetes(fakeKubernetes{}), one(worker)},
		},
		"nri-on": {
			fleets{"no configuration of io.containerd.nri.v1.nri": one(worker)},
			[]fakeFleet{one("machine: {files: [{path: /etc/cri/conf.d/20-customization.part, content: '[plugins.\"io.containerd.nri.v1.nri\"]\n disable = true'}]}")},
		},
		"dhcp-search-domains": {
			fleets{"DHCPv4 on eth0": {nodes: []fakeNode{{config: worker, dhcp: []string{"eth0"}}}}},
			[]fakeFleet{{nodes: []fakeNode{{config: "kind: ResolverConfig\nsearchDomains: {domains: [example.com]}", dhcp: []string{"eth0"}}}}, one(worker)},
		},
		"multipath-config": {
			fleets{"extension multipath-tools": with(worker, "multipath-tools")},
			[]fakeFleet{with(worker, "iscsi-tools")},
		},
		"installer-not-published": {
			fleets{"the installer ghcr.io/siderolabs/installer:v1.13.9": one("machine: {install: {image: 'ghcr.io/siderolabs/installer:v1.13.9'}}")},
			[]fakeFleet{one("machine: {install: {image: 'factory.talos.dev/metal-installer/x:v1.13.9'}}"), one("machine: {install: {image: 'ghcr.io/siderolabs/installer-mirror:v1'}}")},
		},
		"v1alpha1-deprecated": {
			fleets{"machine.install": one("machine: {type: worker, install: {disk: /dev/sda}}"), "cluster.apiServer": one("cluster: {apiServer: {image: x}}")},
			[]fakeFleet{one("machine: {type: worker, token: x}\ncluster: {etcd: {}}"), one("kind: SysctlConfig\nsysctls: {a: b}")},
		},
	}
}

// TestFacts: every fact has a cluster that shows it and one that does not.
func TestFacts(t *testing.T) {
	t.Parallel()

	facts, _, err := load(embedded)
	if err != nil {
		t.Fatal(err)
	}

	all := cases()
	if len(all) != len(facts) {
		t.Errorf("%d facts, cases for %d", len(facts), len(all))
	}

	for _, fact := range facts {
		c := all[fact.ID]
		if len(c.has) == 0 || len(c.lacks) == 0 {
			t.Errorf("%s: %d clusters that have it, %d that do not", fact.ID, len(c.has), len(c.lacks))
		}

		run := func(f fakeFleet) Finding {
			for i := range f.nodes {
				f.nodes[i].version = "v1.12.9"
			}

			return finding(t, f.check(t, "v1.14.1"), fact.ID)
		}

		for shown, fleet := range c.has {
			got := run(fleet)
			if got.Verdict != Applies || len(got.Evidence) != 1 || got.Evidence[0].Count != 1 || got.Evidence[0].Fields[0] != shown || len(got.Unknown) > 0 {
				t.Errorf("%s: %+v, want %s", fact.ID, got, shown)
			}
		}

		for _, fleet := range c.lacks {
			if got := run(fleet); got.Verdict != DoesNotApply || len(got.Evidence)+len(got.Unknown) > 0 {
				t.Errorf("%s: %+v", fact.ID, got)
			}
		}
	}
}

// TestReleases: the facts of every release that a node passes, and of no other.
func TestReleases(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		from, to           []string
		releases, unlisted string
		facts              int
	}{
		"patch":             {from: []string{"v1.13.8"}, to: []string{"v1.13.9", "1.13.10"}},
		"same minor":        {from: []string{"v1.14.0-rc.1"}, to: []string{"v1.14.1"}},
		"downgrade":         {from: []string{"v1.14.1"}, to: []string{"v1.13.9"}},
		"one":               {from: []string{"v1.12.9"}, to: []string{"v1.13.9"}, releases: "v1.13", facts: 4},
		"another":           {from: []string{"v1.13.9"}, to: []string{"v1.14.0-rc.1", "1.14.1"}, releases: "v1.14", facts: 16},
		"two":               {from: []string{"v1.12.9"}, to: []string{"v1.14.1"}, releases: "v1.13 v1.14", facts: 18},
		"the lowest counts": {from: []string{"v1.14.1", "v1.13.9"}, to: []string{"v1.14.1"}, releases: "v1.14", facts: 16},
		"without facts":     {from: []string{"v1.14.1"}, to: []string{"v1.15.0"}, releases: "v1.15", unlisted: "v1.15", facts: 2},
	} {
		for _, to := range c.to {
			f := fakeFleet{}
			for _, from := range c.from {
				f.nodes = append(f.nodes, fakeNode{version: from, config: worker})
			}

			r := f.check(t, to)
			if strings.Join(r.Releases, " ") != c.releases || strings.Join(r.Unlisted, " ") != c.unlisted || len(r.Facts) != c.facts {
				t.Errorf("%s to %s: %v, %v, %d facts", name, to, r.Releases, r.Unlisted, len(r.Facts))
			}

			if c.releases == "" && (len(f.asked) > 0 || r.Error() != nil) {
				t.Errorf("%s: asked %v, %v", name, f.asked, r.Error())
			}

			if c.unlisted != "" && errs.ExitCode(r.Error()) != errs.Negative {
				t.Errorf("%s: %v", name, r.Error())
			}
		}
	}
}

// TestUnknown: what could not be asked is unknown, and never passes.
func TestUnknown(t *testing.T) {
	t.Parallel()

	denied := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindPermissionDenied, Err: errors.New("cannot read the machine configuration on 10.0.0.1: not authorized")}
	down := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("cannot read the version on 10.0.0.1: no route to host")}
	healthy := fakeNode{version: "v1.13.9", config: worker, k8sName: "n1"}

	for name, c := range map[string]struct {
		change  func(*fakeFleet)
		fact    string
		code    errs.Kind
		exit    errs.Code
		outcome gate.Outcome // Of TM155, if the fact is blocking.
	}{
		"configuration denied":    {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"config": denied} }, "flexvolume-path", errs.KindPermissionDenied, errs.OK, gate.Skip},
		"configuration too large": {func(f *fakeFleet) { f.nodes[0].config = "a: [" + strings.Repeat("x,", 30_000) + "]" }, "flexvolume-path", errs.KindFailed, errs.OK, gate.Refuse},
		"configuration not YAML":  {func(f *fakeFleet) { f.nodes[0].config = "a: [" }, "flexvolume-path", errs.KindFailed, errs.OK, gate.Refuse},
		"configuration empty":     {func(f *fakeFleet) { f.nodes[0].config = "# none" }, "flexvolume-path", errs.KindFailed, errs.OK, gate.Refuse},
		"operators denied":        {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"resources": denied} }, "dhcp-search-domains", errs.KindPermissionDenied, errs.OK, ""},
		"operators not read":      {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"resources": down} }, "dhcp-search-domains", errs.KindUnreachable, errs.Negative, ""},
		"extensions not read":     {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"system": down} }, "multipath-config", errs.KindUnreachable, errs.Negative, gate.Refuse},
		"its name not read":       {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"name": down} }, "flexvolume-path", errs.KindUnreachable, errs.Negative, gate.Refuse},
		"configuration not read":  {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"config": down} }, "flexvolume-path", errs.KindUnreachable, errs.Negative, gate.Refuse},
		"node down":               {func(f *fakeFleet) { f.nodes[0].fail = map[string]error{"version": down} }, "multipath-config", errs.KindUnreachable, errs.Negative, gate.Refuse},
		"pods denied":             {func(f *fakeFleet) { f.kubernetes.podsErr = denied }, "flexvolume-pods", errs.KindPermissionDenied, errs.OK, gate.Skip},
		"Kubernetes down":         {func(f *fakeFleet) { f.kubernetesErr = errors.New("connection refused") }, "flexvolume-pods", errs.KindFailed, errs.OK, gate.Refuse},
		"metrics denied":          {func(f *fakeFleet) { f.kubernetes.metricsErr = denied }, "kubernetes-apis-removed", errs.KindPermissionDenied, errs.OK, ""},
		"factory down":            {func(f *fakeFleet) { f.extensionsErr = down }, "extensions-not-built", errs.KindUnreachable, errs.OK, ""},
	} {
		f := fakeFleet{nodes: []fakeNode{healthy, healthy}}
		f.nodes[0].fail = map[string]error{}
		c.change(&f)

		r, err := Check(t.Context(), f.cluster(), "v1.14.1")
		if errs.ExitCode(err) != c.exit || r.Unknown == 0 || errs.ExitCode(r.Error()) != errs.Negative {
			t.Errorf("%s: %v, %v, %d unknown", name, err, r.Error(), r.Unknown)
		}

		got := finding(t, r, c.fact)
		if got.Verdict != Unknown || got.Unknown[0].Code != c.code || got.Unknown[0].Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}

		found := gate.Outcome("")

		for _, v := range r.Gates() {
			if strings.Contains(v.Message, c.fact) {
				found = v.Verdict
			}

			if v.Verdict == gate.Pass && c.outcome != "" {
				t.Errorf("%s: %+v", name, v)
			}
		}

		if found != c.outcome {
			t.Errorf("%s: the gate says %q, want %q", name, found, c.outcome)
		}
	}

	f := fakeFleet{nodes: []fakeNode{{fail: map[string]error{"version": down}}}}
	if r, err := Check(t.Context(), f.cluster(), "v1.14.1"); errs.ExitCode(err) != errs.Unreachable || len(r.Facts) > 0 {
		t.Errorf("no node answers: %v, %+v", err, r)
	}

	if _, err := Check(t.Context(), f.cluster(), "next"); errs.ExitCode(err) != errs.Usage {
		t.Errorf("%v", err)
	}
}

// TestGates: blocking facts refuse, with the node, what shows it and the next command.
func TestGates(t *testing.T) {
	t.Parallel()

	f := fakeFleet{nodes: []fakeNode{{version: "v1.13.9", config: "cluster: {etcd: {extraArgs: {experimental-a: x, experimental-b: x, experimental-c: x, experimental-d: x}}}"}}}

	verdicts := f.check(t, "v1.14.1").Gates()
	if len(verdicts) != 1 || verdicts[0].Verdict != gate.Refuse || verdicts[0].Node != "10.0.0.1" || !strings.Contains(verdicts[0].Message, "experimental-c and 1 more)") ||
		!strings.HasSuffix(verdicts[0].Remedy, ": talosmate machineconfig edit -n 10.0.0.1") {
		t.Errorf("%+v", verdicts)
	}

	if err := gate.Apply(verdicts, gate.Overrides{"TM155"}); err != nil {
		t.Error(err)
	}

	f.nodes[0].config = worker
	if verdicts = f.check(t, "v1.14.1").Gates(); len(verdicts) != 1 || verdicts[0].Verdict != gate.Pass {
		t.Errorf("%+v", verdicts)
	}

	if verdicts = f.check(t, "v1.15.0").Gates(); len(verdicts) != 1 || verdicts[0].Verdict != gate.Warn {
		t.Errorf("%+v", verdicts)
	}
}

// TestHostile: what nodes send is bounded, shows no secret and becomes no command.
func TestHostile(t *testing.T) {
	t.Parallel()

	f := fakeFleet{nodes: []fakeNode{{
		version: "v1.13.9", extensions: []string{strings.Repeat("é", 5000), "https://u:SECRET@host", "x"},
		config: "cluster: {etcd: {extraArgs: {" + strings.Repeat("experimental-x", 100) + ": y}}}",
	}}}
	for range 500 {
		f.nodes[0].extensions = append(f.nodes[0].extensions, "y")
	}

	got := finding(t, f.check(t, "v1.14.1"), "extensions-not-built")
	if e := got.Evidence[0]; len(e.Fields) != maxShown || e.Count != 503 || len(e.Fields[0]) > 310 || strings.Contains(strings.Join(e.Fields, ""), "SECRET") {
		t.Errorf("%+v", e)
	}

	shell := Evidence{Fields: []string{"x"}}
	shell.Node = "$(reboot)"

	if command := (&Fact{Command: "talosmate get -n {node}"}).commandFor([]Evidence{shell}, "v1"); command != "talosmate get -n NODE" {
		t.Error(command)
	}
}

// TestLoadRefuses: a file of facts is checked.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()

	const good = "release: v1.14\nfacts:\n  - {id: a, title: t, node: '[]', remedy: r, source: s}\n"

	for name, text := range map[string]string{
		"unknown key":     strings.Replace(good, "title", "titel: x, title", 1),
		"no source":       strings.Replace(good, ", source: s", "", 1),
		"no remedy":       strings.Replace(good, "remedy: r", "remedy: ' '", 1),
		"another release": strings.Replace(good, "v1.14", "v1.13", 1),
		"no expression":   strings.Replace(good, "node: '[]', ", "", 1),
		"two expressions": strings.Replace(good, "node:", "cluster: '[]', node:", 1),
		"a condition":     strings.Replace(good, "'[]'", "'true'", 1),
		"no CEL":          strings.Replace(good, "'[]'", "'[', needs: []", 1),
		"unknown need":    strings.Replace(good, "node:", "needs: [luck], node:", 1),
		"twice":           good + "  - {id: a, title: t, node: '[]', remedy: r, source: s}\n",
		"empty":           "",
	} {
		facts, _, err := load(fstest.MapFS{"facts/v1.14.yaml": {Data: []byte(text)}})
		for _, f := range facts {
			err = errors.Join(err, f.compile())
		}

		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}

	if facts, _, err := load(fstest.MapFS{"facts/v1.14.yaml": {Data: []byte(good)}}); err != nil || len(facts) != 1 {
		t.Errorf("%v, %d facts", err, len(facts))
	}
}
