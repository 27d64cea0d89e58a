package impact

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Node is what the expressions of facts see of a node, as the variable node.
type Node struct {
	Node         string      `json:"node"`          // Its address.
	Hostname     string      `json:"hostname"`      // Its hostname.
	Type         string      `json:"type"`          // controlplane or worker.
	Version      string      `json:"version"`       // The running Talos version, v1.13.9.
	Platform     string      `json:"platform"`      // metal, aws, …
	SecureBoot   bool        `json:"secure_boot"`   // Whether it booted with secure boot.
	BootedUKI    bool        `json:"booted_uki"`    // Whether systemd-boot booted a UKI; GRUB boots none.
	Schematic    string      `json:"schematic"`     // Its Image Factory schematic, empty without one.
	Kubelet      string      `json:"kubelet"`       // The Kubernetes version of its kubelet.
	K8sNodeName  string      `json:"k8s_node_name"` // Its Kubernetes node, empty when it is not a member.
	InstallImage string      `json:"install_image"` // The installer in its configuration.
	Extensions   []Extension `json:"extensions"`    // Its system extensions.
	DHCP4        []string    `json:"dhcp4"`         // The links that DHCPv4 configures.
	Config       []Field     `json:"config"`        // Its machine configuration, flat.

	unread error // Why its configuration, or the operators that follow from it, are not known. Role: admin.
}

// Extension is a system extension of a node.
type Extension struct {
	Name    string `json:"name"`    // Its name, without siderolabs/.
	Version string `json:"version"` // Its version.
}

// Field is a field of a machine configuration. Its path is that of v1alpha1, machine.kubelet.extraMounts[0].source, or
// begins with the document's kind and name: EtcFileConfig/multipath.conf.contents. Fields that hold others have no value.
type Field struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

// World is what the expressions see of the rest, as the variable cluster.
type World struct {
	To             string               `json:"to"`                      // The Talos version wanted.
	Newest         uint64               `json:"newest_kubernetes_minor"` // The newest Kubernetes that it runs, 37 for 1.37.
	Extensions     []string             `json:"extensions"`              // The official extensions for that version, without siderolabs/.
	FlexVolumePods []string             `json:"flex_volume_pods"`        // NAMESPACE/POD volume NAME of FlexVolumes and of their path on the host.
	DeprecatedAPIs []kube.DeprecatedAPI `json:"deprecated_apis"`         // The deprecated APIs that were requested of an API server.
}

// Reads are the calls of a node that facts take; *talos.Node implements them.
type Reads interface {
	Version(ctx context.Context) (talos.Version, error)
	System(ctx context.Context) (talos.System, error)
	KubernetesName(ctx context.Context) (string, error)
	MachineConfig(ctx context.Context) ([]byte, error)
	Resources(ctx context.Context, namespace, typ string, labels ...string) ([]talos.Resource, error)
}

// ask reads a node; of one that passes no release its version only.
func (c *check) ask(ctx context.Context, n Reads) (out Node, err error) {
	v, err := n.Version(ctx)
	if err != nil {
		return out, err
	}

	out.Version, out.Platform = v.Tag, v.Platform
	if release.Minor(v.Tag) >= release.Minor(c.to) {
		return out, nil
	}

	system, err := n.System(ctx)
	if err != nil {
		return out, err
	}

	out.SecureBoot, out.BootedUKI, out.Schematic, out.Kubelet = system.SecureBoot, system.BootedUKI, system.Schematic, system.Kubelet
	out.Extensions = lists.Map(system.Extensions, func(e talos.Extension) Extension {
		return Extension{Name: strings.TrimPrefix(e.Name, "siderolabs/"), Version: e.Version}
	})

	if out.K8sNodeName, err = n.KubernetesName(ctx); err != nil {
		return out, err
	}

	text, err := n.MachineConfig(ctx)
	if err == nil {
		out.Config, out.unread = Fields(text)
		out.DHCP4, err = dhcp4(ctx, n)
	}

	if conn.OneOf(err, errs.KindPermissionDenied) {
		out.unread, err = err, nil
	}

	out.InstallImage = cmp.Or(out.value("machine.install.image"), out.value("UnattendedInstallConfig.installer.image"))
	out.Type = typeOf(out.value("machine.type"))

	return out, err
}

func dhcp4(ctx context.Context, n Reads) ([]string, error) {
	out := []string{}

	list, err := n.Resources(ctx, "network", "OperatorSpecs.net.talos.dev")
	for _, r := range list {
		spec, err := talos.Decode[struct {
			Operator string `json:"operator"`
			Link     string `json:"linkName"`
		}](r)
		if err != nil {
			return nil, err
		}

		if spec.Operator == "dhcp4" {
			out = append(out, spec.Link)
		}
	}

	return out, err
}

// typeOf is the type of a node with a machine.type; init and join are older words.
func typeOf(text string) string {
	switch text {
	case "init":
		return target.ControlPlane
	case "join":
		return "worker"
	default:
		return text
	}
}

func (n *Node) value(at string) string {
	f, _ := lists.Find(n.Config, func(f Field) bool { return f.Path == at })

	return f.Value
}

// maxFields and maxPath bound what expressions are evaluated over. Real configurations have some hundred fields.
const (
	maxFields = 20_000
	maxPath   = 500
)

// Fields lists the fields of a machine configuration.
func Fields(text []byte) ([]Field, error) {
	documents, err := foreign.Documents(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the machine configuration: %w", err)
	}

	out := []Field{}

	for _, doc := range documents {
		if len(doc.Content) == 0 {
			continue
		}

		root, prefix := doc.Content[0], ""

		if kind := foreign.Get(root, "kind"); kind != nil {
			if prefix = kind.Value; foreign.Get(root, "name") != nil {
				prefix += "/" + foreign.Get(root, "name").Value
			}
		}

		if out = appendFields(out, root, prefix); len(out) > maxFields {
			return nil, fmt.Errorf("cannot read the machine configuration: it has more than %d fields", maxFields)
		}
	}

	if len(out) == 0 {
		return nil, errors.New("cannot read the machine configuration: it is empty")
	}

	return out, nil
}

func appendFields(out []Field, n *yaml.Node, at string) []Field {
	if n.Kind == yaml.AliasNode {
		return appendFields(out, n.Alias, at)
	}

	if at = at[:min(len(at), maxPath)]; at != "" {
		out = append(out, Field{Path: at})
	}

	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content) && len(out) <= maxFields; i += 2 {
			out = appendFields(out, n.Content[i+1], strings.TrimPrefix(at+"."+n.Content[i].Value, "."))
		}
	case yaml.SequenceNode:
		for i := 0; i < len(n.Content) && len(out) <= maxFields; i++ {
			out = appendFields(out, n.Content[i], fmt.Sprintf("%s[%d]", at, i))
		}
	case yaml.ScalarNode:
		if at != "" {
			out[len(out)-1].Value = n.Value
		}
	}

	return out
}

// joined fills in what a node is called and what discovery knows of it.
func (n Node) joined(t talos.Target) Node {
	n.Node, n.Hostname, n.Type = t.Address, t.Hostname, cmp.Or(n.Type, t.Type)
	n.Extensions, n.DHCP4, n.Config = filled(n.Extensions), filled(n.DHCP4), filled(n.Config)

	return n
}

// filled is a list that is never null.
func filled[T any](list []T) []T { return append([]T{}, list...) }
