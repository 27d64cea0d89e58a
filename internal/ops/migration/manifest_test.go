package migration_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

type object = map[string]any

// rendered are the Kubernetes objects that a node renders.
type rendered struct {
	mode, image, network, header string
}

func (r rendered) of(typ string, migrated bool) []talos.Resource {
	res := func(id, owner string, spec any) talos.Resource {
		return talos.Resource{Metadata: talos.ResourceMetadata{Namespace: "controlplane", Type: typ, ID: id, Owner: owner}, Spec: spec}
	}
	named := func(kind, name string, more object) object {
		more["kind"], more["metadata"] = kind, object{"name": name, "namespace": "kube-system"}

		return more
	}
	proxy := func(volumes []any, command ...any) object {
		container := object{"name": "kube-proxy", "image": "proxy:1", "command": append([]any{"/usr/local/bin/kube-proxy"}, command...)}

		return named("DaemonSet", "kube-proxy", object{"spec": object{"template": object{"spec": object{"containers": []any{container}, "volumes": volumes}}}})
	}

	switch typ {
	case "Manifests.kubernetes.talos.dev":
		objects := []any{proxy(nil, "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--hostname-override=$(NODE_NAME)", "--ipvs-strict-arp=true",
			"--kubeconfig=/etc/kubernetes/kubeconfig", "--nodeport-addresses=10.0.0.0/8,fd00::/8", "--proxy-mode=nftables")}
		if migrated {
			objects = []any{
				named("ConfigMap", "kube-proxy-config-0123", object{"data": object{"config.conf": "apiVersion: v1alpha1\nkind: KubeProxyConfiguration\n" +
					"clusterCIDR: 10.244.0.0/16\nconntrack: {maxPerCore: 0}\nipvs: {strictARP: true}\nclientConnection: {kubeconfig: /etc/kubernetes/kubeconfig}\n" +
					"nodePortAddresses: [10.0.0.0/8, \"fd00::/8\"]\nmode: " + r.mode + "\n"}}),
				proxy([]any{object{"name": "config", "configMap": object{"name": "kube-proxy-config-0123"}}},
					"--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"),
			}
		}

		image, network, fetched := "dns:1", "10.244.0.0/16", "a"
		if migrated {
			image, network, fetched = r.image, r.network, "b" // What is fetched is not ours.
		}

		return []talos.Resource{
			res("05-flannel", "k8s.ManifestController", []any{named("ConfigMap", "kube-flannel-cfg", object{"data": object{"net-conf.json": network}})}),
			res("10-kube-proxy", "k8s.ManifestController", objects),
			res("11-core-dns", "k8s.ManifestController", []any{named("Deployment", "coredns", object{"spec": image})}),
			res("99-fetched", "k8s.ExtraManifestController", []any{named("ConfigMap", "x", object{"data": fetched})}),
		}
	case "ExtraManifestsConfigs.kubernetes.talos.dev":
		name, header := "https://x/y.yaml", "z"
		if migrated {
			name, header = "manifest-1-y", r.header
		}

		return []talos.Resource{res("extra-manifests", "k8s.ControlPlaneExtraManifestsController", object{"extraManifests": []any{
			object{"name": name, "url": "https://x/y.yaml", "extraHeaders": object{"a": header}},
			object{"name": "own", "inlineManifest": "text"},
		}})}
	default:
		return nil
	}
}

// The objects that a node renders must be the same, and kube-proxy's settings the same in a file as in flags.
func TestManifests(t *testing.T) {
	t.Parallel()

	controlPlane, _ := configs(t)
	right := rendered{"nftables", "dns:1", "10.244.0.0/16", "z"}

	for _, c := range []struct {
		name string
		set  func(*rendered)
		want string
	}{
		{"the same", func(*rendered) {}, ""},
		{"another mode of kube-proxy", func(r *rendered) { r.mode = "iptables" }, "Manifests/10-kube-proxy settings.mode"},
		{"another image of CoreDNS", func(r *rendered) { r.image = "dns:2" }, "Manifests/11-core-dns Deployment/kube-system/coredns.spec"},
		{"another network of flannel", func(r *rendered) { r.network = "" }, "Manifests/05-flannel ConfigMap/kube-system/kube-flannel-cfg.data.net-conf.json"},
		{"another header", func(r *rendered) { r.header = "" }, "ExtraManifestsConfigs/extra-manifests extraManifests[https://x/y.yaml].extraHeaders.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := right
				c.set(&r)

				s := newSite("node-1", controlPlane, true)
				s.manifests = r.of

				got, err := s.apply(t.Context(), options(t.TempDir()))
				if c.want != "" {
					if got.Status != runbook.RolledBack || !slices.Equal(got.Equivalence.Differences, []string{c.want}) {
						t.Errorf("%s, %v: %v", got.Status, got.Equivalence, err)
					}

					return
				}

				if got.Status != runbook.OK || len(got.Equivalence.Differences) > 0 {
					t.Errorf("%s, %v: %v", got.Status, got.Equivalence, err)
				}

				for _, e := range got.Equivalence.Explained {
					if strings.HasPrefix(e.Path, "Manifests/") && !strings.HasPrefix(e.Reason, "kube-proxy reads its settings from a file") {
						t.Errorf("%+v", e)
					}
				}
			})
		})
	}
}
