package migration

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/talos"
)

const (
	manifestType = "Manifests.kubernetes.talos.dev"

	// rendersManifests is the controller that renders Kubernetes objects of the configuration. Others fetch them from URLs,
	// and may get something else at another time.
	rendersManifests = "k8s.ManifestController"

	proxyID       = "kube-proxy"
	proxyManifest = "Manifests/10-kube-proxy "
	proxyFile     = "config"
	proxyFileMap  = "kube-proxy-config-"
	proxySettings = proxyManifest + "settings"
	proxySpec     = proxyManifest + "DaemonSet/kube-system/" + proxyID + ".spec.template.spec."
	proxyPod      = proxySpec + "containers[" + proxyID + "]."
)

// manifest adds the Kubernetes objects of one manifest by kind, namespace and name.
func (c *content) manifest(r talos.Resource) {
	if r.Metadata.Owner != rendersManifests {
		return
	}

	list, _ := r.Spec.([]any) //nolint:errcheck // any other spec has no objects
	for _, one := range list {
		object, _ := one.(map[string]any)                  //nolint:errcheck // it has no fields then
		metadata, _ := object["metadata"].(map[string]any) //nolint:errcheck // as above
		name := "Manifests/" + r.Metadata.ID + " " + fmt.Sprint(object["kind"], "/")

		if namespace := metadata["namespace"]; namespace != nil {
			name += fmt.Sprint(namespace, "/")
		}

		name += fmt.Sprint(metadata["name"])
		c.Values[name] = "present"
		c.flatten(name, object)
		c.proxy(name, object)
	}
}

// proxy adds the settings of kube-proxy, which it takes from flags or, with the document, from a file. Both forms are made
// those of the file.
func (c *content) proxy(name string, object map[string]any) {
	file, isFile := strings.CutPrefix(name, proxyManifest+"ConfigMap/kube-system/"+proxyFileMap)

	switch {
	case isFile && file != "":
		data, _ := object["data"].(map[string]any) //nolint:errcheck // it has no settings then
		text, _ := data["config.conf"].(string)    //nolint:errcheck // as above
		settings := map[string]any{}

		if foreign.YAML([]byte(text), &settings) == nil {
			delete(settings, "apiVersion")
			delete(settings, "kind")
			c.flatten(proxySettings, settings)
		}
	case name == strings.TrimSuffix(proxySpec, ".spec.template.spec."):
		flags := proxyFlags(object)
		if flags[proxyFile] == nil {
			c.flatten(proxySettings, settingsOf(flags))
		}
	}
}

// proxyFlags gives the flags of kube-proxy in its DaemonSet.
func proxyFlags(object map[string]any) map[string][]string {
	out := map[string][]string{}
	for _, key := range []string{"spec", "template", "spec"} {
		object, _ = object[key].(map[string]any) //nolint:errcheck // it has no flags then
	}

	containers, _ := object["containers"].([]any) //nolint:errcheck // as above
	for _, one := range containers {
		container, _ := one.(map[string]any)       //nolint:errcheck // as above
		command, _ := container["command"].([]any) //nolint:errcheck // as above

		for _, argument := range command {
			if flag, value, ok := strings.Cut(strings.TrimPrefix(fmt.Sprint(argument), "--"), "="); ok && container["name"] == proxyID {
				out[flag] = append(out[flag], value)
			}
		}
	}

	return out
}

// settingsOf says flags of kube-proxy as its file does: those that Talos sets (Talos,
// internal/app/machined/pkg/controllers/k8s/control_plane.go), and those that a migration knows.
func settingsOf(flags map[string][]string) map[string]any {
	out := map[string]any{}

	for flag, values := range flags {
		value := strings.Join(values, ",")

		switch flag {
		case "cluster-cidr":
			out["clusterCIDR"] = value
		case "proxy-mode":
			out["mode"] = value
		case "kubeconfig":
			out["clientConnection"] = map[string]any{"kubeconfig": value}
		case "conntrack-max-per-core":
			out["conntrack"] = map[string]any{"maxPerCore": value}
		default:
			known, unknown := migrate.ProxySettings(map[string][]string{flag: values})
			if unknown == "" {
				maps.Copy(out, known)
			}
		}
	}

	return out
}

// proxyExplanation gives the reason for what differs because kube-proxy reads its settings from a file.
func (c content) proxyExplanation(path string) string {
	flag, ok := c.replaced(path, proxyPod, proxyFile)
	known := ok && (flag == proxyFile || len(settingsOf(map[string][]string{flag: nil})) > 0)

	if !known && !(c.has(proxyPod, proxyFile) && slices.ContainsFunc([]string{
		proxyManifest + "ConfigMap/kube-system/" + proxyFileMap, proxySpec + "volumes[" + proxyFile + "]", proxyPod + "volumeMounts[" + proxyFile + "]",
	}, func(prefix string) bool { return strings.HasPrefix(path, prefix) })) {
		return ""
	}

	return "kube-proxy reads its settings from a file, and they were compared one by one"
}

// byURL names manifests that are fetched by their URL: documents give them other names.
func byURL(spec map[string]any) map[string]any {
	list, ok := spec["extraManifests"].([]any)
	if !ok {
		return spec
	}

	spec, list = maps.Clone(spec), slices.Clone(list)

	for i, one := range list {
		if manifest, ok := one.(map[string]any); ok && manifest["url"] != nil && manifest["url"] != "" {
			manifest = maps.Clone(manifest)
			manifest["name"] = manifest["url"]
			list[i] = manifest
		}
	}

	spec["extraManifests"] = list

	return spec
}
