package image

import (
	"context"
	"strings"

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
	)

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the images of each node",
		Long: "List the images of each node. One image stands under several names (tag, digest form, ID) that share\n" +
			"a digest; --group shows one row an image. Talos lists only pods whose sandbox is ready: the image of a\n" +
			"restarting pod looks unused here.",
		Example: "  talosmate image list -n worker-1 --group\n" +
			"  talosmate image list -A -o json --query '.items[] | select(.in_use | not) | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &namespace)
			fs.BoolVar(&group, "group", false, "one row an image instead of one a name")
		},
	}, "ImageList", cmdutil.NodeList[talos.Image]{
		Columns: []output.Column[talos.Image]{
			{Header: "IMAGE", Value: func(i talos.Image) string { return i.Name }},
			{Header: "KIND", Value: func(i talos.Image) string { return i.Kind }},
			{Header: "SIZE", Value: func(i talos.Image) string { return output.Bytes(i.SizeBytes) }},
			{Header: "IN USE", Value: func(i talos.Image) string { return output.YesNo(i.InUse) }},
			{Header: "PINNED", Value: func(i talos.Image) string { return output.YesNo(i.Pinned) }},
			{Header: "DIGEST", Wide: true, Value: func(i talos.Image) string { return i.Digest }},
			{Header: "NAMES", Wide: true, Value: func(i talos.Image) string { return strings.Join(i.Names, ",") }},
		},
		Name: func(i talos.Image) string { return i.Name },
	}, func(ctx context.Context, _ *cmdutil.Call, n *talos.Node) ([]talos.Image, error) {
		images, err := n.Images(ctx, namespace)
		if err != nil {
			return nil, err
		}

		containers, err := n.Containers(ctx, namespace)
		if err != nil {
			return nil, err
		}

		images = image.Sort(image.MarkUse(images, containers))
		if group {
			images = image.Group(images)
		}

		return images, nil
	})
}
