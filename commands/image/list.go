package image

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdList(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		namespace string
		group     bool
		unused    bool
		said      sync.Map // One cause often holds for all nodes.
	)

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images of each node",
		Long: "List the images of each node. One image stands under several names (tag, digest form, ID) that share\n" +
			"a digest; --group shows one row an image.\n\n" +
			"In the cri namespace an image is in use when a container uses it. Talos lists only pods whose sandbox is\n" +
			"ready, so the image of a restarting pod looks unused. --unused also asks Kubernetes for the pods bound to\n" +
			"the node and reads the static pods, and lists what none of them uses. In the system namespace the kubelet's\n" +
			"and etcd's images are in use. Only os:admin may read which image is the kubelet's: for other roles the use\n" +
			"of the other images there is unknown.",
		Example: "  talosmate image list -n worker-1 --group\n" +
			"  talosmate image list -A --namespace all -o wide\n" +
			"  talosmate image list -A --unused -o json --query '.items[].name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &namespace, allNamespaces)
			fs.BoolVar(&group, "group", false, "one row an image instead of one a name")
			fs.BoolVar(&unused, "unused", false, "only images that nothing uses")
		},
	}, "ImageList", cmdutil.NodeList[talos.Image]{
		Columns: []output.Column[talos.Image]{
			{Header: "IMAGE", Value: func(i talos.Image) string { return output.Short(i.Name) }},
			{Header: "KIND", Wide: true, Value: func(i talos.Image) string { return i.Kind }},
			{Header: "SIZE", Value: func(i talos.Image) string { return output.Bytes(i.SizeBytes) }},
			{Header: "IN USE", Value: use},
			{Header: "PINNED", Wide: true, Value: func(i talos.Image) string { return output.YesNo(i.Pinned) }},
			{Header: "NAMESPACE", Wide: true, Value: func(i talos.Image) string { return i.Namespace }},
			{Header: "DIGEST", Wide: true, Value: func(i talos.Image) string { return i.Digest }},
			{Header: "NAME", Wide: true, Value: func(i talos.Image) string { return i.Name }},
			{Header: "NAMES", Wide: true, Value: func(i talos.Image) string { return strings.Join(i.Names, ",") }},
		},
		Name:    func(i talos.Image) string { return i.Name },
		Watched: true,
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]talos.Image, error) {
		once := func(text string) {
			if _, before := said.LoadOrStore(text, true); !before {
				c.Warn("%s", text)
			}
		}

		namespaces := []string{namespace}
		if namespace == allNamespaces {
			namespaces = []string{talos.NamespaceCRI, talos.NamespaceSystem}
		}

		var all []talos.Image

		for _, namespace := range namespaces {
			images, err := used(ctx, c, n, namespace, unused, once)
			if err != nil {
				return nil, err
			}

			if group {
				images = image.Group(images)
			}

			all = append(all, images...)
		}

		if unused {
			all = image.Unused(all)
		}

		return all, nil
	})
}

// allNamespaces stands for both containerd instances.
const allNamespaces = "all"

// used lists the images of one containerd instance with what uses them. Kubernetes is asked for its pods if pods is true.
func used(ctx context.Context, c *cmdutil.Call, n *talos.Node, namespace string, pods bool, once func(string)) ([]talos.Image, error) {
	images, err := n.Images(ctx, namespace)
	if err != nil {
		return nil, err
	}

	usage, err := image.ReadUsage(ctx, n, namespace)
	if err != nil {
		return nil, err
	}

	if pods {
		problem, err := addPods(ctx, c, n, &usage)
		if err != nil {
			return nil, err
		}

		if problem != "" {
			once("Kubernetes could not be asked for its pods, whose images may be listed as unused: " + problem)
		}
	}

	for _, s := range usage.Unread {
		once(fmt.Sprintf("cannot tell which images are in use: the spec of %s cannot be read: %s", s.Service, s.Reason))
	}

	return image.Sort(usage.Mark(images)), nil
}

// addPods adds the images of static pods and of the pods that Kubernetes has bound to the node. It returns why Kubernetes
// could not be asked.
func addPods(ctx context.Context, c *cmdutil.Call, n *talos.Node, usage *image.Usage) (problem string, err error) {
	static, err := n.StaticPodImages(ctx)
	if err != nil {
		return "", err
	}

	bound, err := podsOf(ctx, c, n, usage.Namespace)
	if err != nil {
		return "", err
	}

	usage.AddReferences(static...)
	usage.AddReferences(bound.images...)

	return bound.problem, nil
}

func use(i talos.Image) string {
	if i.UseUnknown {
		return "unknown"
	}

	return output.YesNo(i.InUse)
}
