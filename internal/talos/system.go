package talos

import (
	"context"
	"errors"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// System describes the running system as far as an upgrade must preserve it.
type System struct {
	Schematic  string      // The Image Factory schematic, empty when it was not made by a factory.
	Extensions []Extension // The system extensions, without the virtual ones.
	Kubelet    string      // The Kubernetes version of the kubelet, empty when there is none.

	SecurityState // Whether it booted a UKI decides whose kernel arguments count: with one, the image's own.
}

// KernelArguments reads what the kernel was started with; empty where the node does not tell. Roles: reader, operator, admin.
func (n *Node) KernelArguments(ctx context.Context) ([]string, error) {
	spec, err := resourceSpec[struct {
		Cmdline string `json:"cmdline"`
	}](ctx, n, "runtime", "KernelCmdlines.runtime.talos.dev", "cmdline")

	return strings.Fields(spec.Cmdline), err
}

// System reads the description of the running system. Roles: reader, operator, admin.
func (n *Node) System(ctx context.Context) (System, error) {
	all, err := n.Extensions(ctx)
	if err != nil {
		return System{}, err
	}

	var out System

	for _, e := range all {
		if e.Name == SchematicExtension {
			out.Schematic = e.Version

			continue
		}

		out.Extensions = append(out.Extensions, e)
	}

	if id, err := n.schematicResource(ctx); err != nil {
		return System{}, err
	} else if id != "" {
		out.Schematic = id
	}

	if out.SecurityState, err = n.Security(ctx); err != nil {
		return System{}, err
	}

	kubelet, err := resourceSpec[struct {
		Image string `json:"image"`
	}](ctx, n, "k8s", "KubeletSpecs.kubernetes.talos.dev", "kubelet")
	if err != nil {
		return System{}, err
	}

	if out.Kubelet = imageref.Split(kubelet.Image).Tag; out.Kubelet == "" {
		out.Kubelet = n.runningKubelet(ctx)
	}

	return out, nil
}

// runningKubelet is the version of the kubelet's container, for nodes whose kubelet spec cannot be read.
func (n *Node) runningKubelet(ctx context.Context) string {
	containers, err := n.Containers(ctx, NamespaceSystem)
	if err != nil {
		return "" // an error means that the version is not known
	}

	kubelet, _ := lists.Find(containers, func(c Container) bool { return c.ID == "kubelet" || c.Name == "kubelet" })

	return imageref.Split(kubelet.Image).Tag
}

// schematicResource reads the schematic's resource of Talos 1.14 and newer; older nodes do not have the type.
func (n *Node) schematicResource(ctx context.Context) (string, error) {
	list, err := n.Resources(ctx, "runtime", "ImageFactorySchematics.runtime.talos.dev")
	if err != nil || len(list) == 0 {
		if conn.KindOf(err) == errs.KindUnreachable || conn.KindOf(err) == errs.KindTimeout {
			return "", err
		}

		return "", nil
	}

	spec, err := Decode[struct {
		SchematicID string `json:"schematicId"`
	}](list[0])

	return spec.SchematicID, n.Fail("read the schematic", err)
}

// resourceSpec reads one resource's spec, the zero value when the resource does not exist or may not be
// read.
func resourceSpec[T any](ctx context.Context, n *Node, namespace, typ, id string) (T, error) {
	var zero T

	r, err := n.Resource(ctx, namespace, typ, id)
	if conn.KindOf(err) == errs.KindNotFound || conn.KindOf(err) == errs.KindPermissionDenied {
		return zero, nil
	}

	if err != nil {
		return zero, err
	}

	out, err := Decode[T](r)

	return out, n.Fail("read "+typ, err)
}

// MachineConfigText reads the active machine configuration as the node holds it, all documents. Role: admin.
func (n *Node) MachineConfigText(ctx context.Context) (string, error) {
	r, err := n.Resource(ctx, "config", "MachineConfigs.config.talos.dev", "v1alpha1")
	if err != nil {
		return "", err
	}

	if text, ok := r.Spec.(string); ok {
		return text, nil
	}

	return "", n.Fail("read the machine configuration", errors.New("its spec is not text"))
}

// VirtualIPs lists the addresses that move between nodes. They are bad endpoints, since they move during a reboot.
// Role: admin, since the type is sensitive.
func (n *Node) VirtualIPs(ctx context.Context) ([]string, error) {
	list, err := n.Resources(ctx, "network", "OperatorSpecs.net.talos.dev")
	if err != nil {
		return nil, err
	}

	var out []string

	for _, r := range list {
		spec, err := Decode[struct {
			Operator string `json:"operator"`
			VIP      struct {
				IP string `json:"ip"`
			} `json:"vip"`
		}](r)
		if err != nil {
			return nil, n.Fail("read the network operators", err)
		}

		if spec.Operator == "vip" && spec.VIP.IP != "" {
			out = append(out, spec.VIP.IP)
		}
	}

	return out, nil
}
