package migration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Unread is a type of resource that could not be compared.
type Unread struct {
	Type   string `json:"type"`   // The full type.
	Reason string `json:"reason"` // Why it could not be read.
}

// Equivalence says what a node made of its configuration before and after, compared by content.
type Equivalence struct {
	Values      int                 `json:"values"`      // How many values of resources were compared.
	Explained   []migrate.Exception `json:"explained"`   // Values that differ, and why that makes no difference; never null.
	Differences []string            `json:"differences"` // Values that differ without a reason, by resource and path; never null.
	Unknown     []Unread            `json:"unknown"`     // What could not be compared; never null.
}

// content is what a node makes of its configuration: a digest of every value by type, ID and path. Digests, because the
// values hold secrets.
type content struct {
	Values  map[string]string `json:"values"`
	Render  string            `json:"render,omitempty"`  // Which rendering of kube-apiserver's pod it is: a new one restarts it.
	Started string            `json:"started,omitempty"` // When the kubelet took kube-apiserver's pod.
	Unknown []Unread          `json:"unknown"`
}

// resources lists what Talos makes of its configuration, by namespace and type. Statuses are not compared: others change what they show.
func resources() [][2]string {
	return [][2]string{
		{"k8s", staticPodType},
		{"k8s", "KubeletSpecs.kubernetes.talos.dev"},
		{"k8s", "EtcdEncryptionConfigs.kubernetes.talos.dev"},
		{"k8s", "NodeAnnotationSpecs.k8s.talos.dev"},
		{"k8s", "NodeLabelSpecs.k8s.talos.dev"},
		{"k8s", "NodeTaintSpecs.k8s.talos.dev"},
		{"controlplane", "AdmissionControlConfigs.kubernetes.talos.dev"},
		{"controlplane", "AuditPolicyConfigs.kubernetes.talos.dev"},
		{"controlplane", "AuthorizationConfigs.kubernetes.talos.dev"},
		{"controlplane", "SchedulerConfigs.kubernetes.talos.dev"},
		{"controlplane", manifestType},
		{"controlplane", "ExtraManifestsConfigs.kubernetes.talos.dev"},
		{"runtime", "KernelParamSpecs.runtime.talos.dev"},
		{"network", "AddressSpecs.net.talos.dev"},
		{"network", "HostnameSpecs.net.talos.dev"},
		{"network", "LinkSpecs.net.talos.dev"},
		{"network", "ResolverSpecs.net.talos.dev"},
		{"network", "RouteSpecs.net.talos.dev"},
		{"network", "TimeServerSpecs.net.talos.dev"},
	}
}

const (
	staticPodType = "StaticPods.kubernetes.talos.dev"
	apiServerID   = "kube-apiserver"

	authenticationFile = "authentication-config"

	lookWithin = 30 * time.Second // For one look at all resources.
)

// look reads what a node makes of its configuration. A type that the node does not show is noted.
func look(ctx context.Context, n probe.API) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()

	out := content{Values: map[string]string{}, Unknown: []Unread{}}

	for _, kind := range resources() {
		list, err := n.Resources(ctx, kind[0], kind[1])
		if err != nil && (ctx.Err() != nil || conn.Transient(err)) {
			return out, err
		}

		if err != nil {
			out.Unknown = append(out.Unknown, Unread{Type: kind[1], Reason: err.Error()})

			continue
		}

		for _, r := range list {
			out.resource(r)
		}
	}

	return out, nil
}

func (c *content) resource(r talos.Resource) {
	if r.Metadata.Type == manifestType {
		c.manifest(r)

		return
	}

	short, _, _ := strings.Cut(r.Metadata.Type, ".")
	id := short + "/" + r.Metadata.ID
	spec, _ := r.Spec.(map[string]any) //nolint:errcheck // any other spec has no fields to look at

	switch r.Metadata.Namespace {
	case "controlplane":
		spec = byURL(spec)
	case "network": // the layer says which controller wrote it
		spec = maps.Clone(spec)
		delete(spec, "layer")
	case "k8s":
		if metadata, ok := spec["metadata"].(map[string]any); ok && r.Metadata.Type == staticPodType {
			c.annotations(id, metadata)
			spec = maps.Clone(spec)
			delete(spec, "metadata")
			delete(spec, "status")
		}

		if text, ok := spec["configuration"].(string); ok { // a file, as text
			var parsed any
			if foreign.YAML([]byte(text), &parsed) == nil {
				spec = map[string]any{"configuration": parsed}
			}
		}
	}

	c.Values[id] = "present"

	if spec == nil {
		c.flatten(id, r.Spec)

		return
	}

	c.flatten(id, spec)
}

// annotations keeps the metadata of a static pod without the versions of the resources that it was rendered from.
func (c *content) annotations(id string, metadata map[string]any) {
	metadata = maps.Clone(metadata)
	own := map[string]any{}
	rendered := []string{}

	all, _ := metadata["annotations"].(map[string]any) //nolint:errcheck // a pod without annotations
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, "talos.dev/") && strings.HasSuffix(name, "-version") {
			rendered = append(rendered, fmt.Sprint(name, "=", all[name]))
		} else {
			own[name] = all[name]
		}
	}

	if strings.HasSuffix(id, "/"+apiServerID) {
		c.Render = strings.Join(rendered, " ")
	}

	metadata["annotations"] = own
	c.flatten(id+" metadata", metadata)
}

// flatten adds the values below a path. Arguments of commands are known by their flag, and objects in a list by their name.
func (c *content) flatten(path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			c.flatten(step(path, key), child)
		}
	case []any:
		seen := map[string]int{}

		for i, child := range v {
			key := fmt.Sprint(i)
			if text, ok := child.(string); ok && strings.HasPrefix(text, "-") {
				key, child, _ = strings.Cut(text, "=")
			} else if object, ok := child.(map[string]any); ok && object["name"] != nil {
				key = fmt.Sprint(object["name"])
			}

			if seen[key]++; seen[key] > 1 {
				key += fmt.Sprintf("#%d", seen[key])
			}

			c.flatten(path+"["+key+"]", child)
		}
	default:
		sum := sha256.Sum256(fmt.Append(nil, v))
		c.Values[path] = hex.EncodeToString(sum[:12])
	}
}

func step(path, key string) string {
	if strings.Contains(path, " ") {
		return path + "." + key
	}

	return path + " " + key
}

// compare lists what differs between two looks at a node.
func (c content) compare(after content) *Equivalence {
	out := &Equivalence{Explained: []migrate.Exception{}, Differences: []string{}, Unknown: slices.Clone(c.Unknown)}
	unread := func(list []Unread, path string) bool {
		return slices.ContainsFunc(list, func(u Unread) bool {
			short, _, _ := strings.Cut(u.Type, ".")

			return strings.HasPrefix(path, short+"/")
		})
	}

	for _, u := range after.Unknown {
		if !slices.ContainsFunc(out.Unknown, func(o Unread) bool { return o.Type == u.Type }) {
			out.Unknown = append(out.Unknown, u)
		}
	}

	all := maps.Clone(c.Values)
	maps.Copy(all, after.Values)

	for _, path := range slices.Sorted(maps.Keys(all)) {
		switch {
		case unread(out.Unknown, path):
			continue
		case c.Values[path] == after.Values[path]:
		default:
			if reason := after.explanation(path); reason != "" {
				out.Explained = append(out.Explained, migrate.Exception{Path: path, Reason: reason})
			} else {
				out.Differences = append(out.Differences, path)
			}
		}

		out.Values++
	}

	return out
}

const apiServerPod = "StaticPods/" + apiServerID + " "

// explanation gives the reason why a difference makes none, empty if it does. With its authentication file Talos omits the
// flags of kube-apiserver that it replaces, and mounts the machine's trusted CAs (Talos,
// internal/app/machined/pkg/controllers/k8s/control_plane_final.go and pkg/machinery/config/types/k8s/apiserver.go).
func (c content) explanation(path string) string {
	const container = apiServerPod + "spec.containers[" + apiServerID + "]."

	if flag, ok := c.replaced(path, container, authenticationFile); ok && (flag == authenticationFile || slices.Contains(migrate.AuthenticationFlags(), flag)) ||
		c.has(container, authenticationFile) && (strings.HasPrefix(path, apiServerPod+"spec.volumes[ca-roots]") || strings.HasPrefix(path, container+"volumeMounts[ca-roots]")) {
		return "kube-apiserver reads its authentication from a file, which was compared in the configuration"
	}

	return c.proxyExplanation(path)
}

// has reports whether a container reads a file that a flag names.
func (c content) has(container, file string) bool {
	_, there := c.Values[container+"command[--"+file+"]"]

	return there
}

// replaced gives the flag of a path that a file may replace.
func (c content) replaced(path, container, file string) (string, bool) {
	flag, ok := strings.CutPrefix(path, container+"command[--")
	flag, _, _ = strings.Cut(strings.TrimSuffix(flag, "]"), "#")

	return flag, ok && c.has(container, file)
}

// apiServerStatus reads whether kube-apiserver on the node is ready, and when the kubelet took its pod.
func apiServerStatus(ctx context.Context, n probe.API) (ready bool, started string, err error) {
	list, err := n.Resources(ctx, "k8s", "StaticPodStatuses.kubernetes.talos.dev")
	if err != nil {
		return false, "", err
	}

	for _, r := range list {
		if !strings.HasPrefix(r.Metadata.ID, "kube-system/"+apiServerID+"-") {
			continue
		}

		status, err := talos.Decode[struct {
			StartTime  string `json:"startTime"`
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		}](r)
		if err != nil {
			return false, "", err
		}

		for _, c := range status.Conditions {
			ready = ready || c.Type == "Ready" && c.Status == "True"
		}

		return ready, status.StartTime, nil
	}

	return false, "", errNoAPIServer()
}

func errNoAPIServer() error {
	return errs.New(errs.Failed, "the kubelet reports no %s", apiServerID)
}
