package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdRemove(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		namespace string
		allRefs   bool
	)

	return cmdutil.NewNodeChange(f, cmdutil.Command{
		Use: "remove REF", Aliases: []string{"rm"}, Short: "Remove one name of an image, or the image",
		Long: "Remove one name of an image. One image stands under several names (tag, digest form, ID) that share a\n" +
			"digest, and its space comes back with the last of them: the result lists the names that still hold it,\n" +
			"and --all-refs removes all of them. Containers that run keep running.",
		Example: "  talosmate image remove docker.io/library/nginx:1.27 -n worker-1 --all-refs\n" +
			"  talosmate image remove docker.io/library/nginx:1.27 --workers --dry-run -o json --query '.items[].remaining_refs'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Since: "v1.13"},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &namespace)
			fs.BoolVar(&allRefs, "all-refs", false, "remove every name of the image")
		},
		Complete: func(ctx context.Context, c *cmdutil.Call, args []string) []string {
			return cmdutil.CompleteFrom(func(ctx context.Context, n *talos.Node) ([]string, error) {
				images, err := n.Images(ctx, namespace)

				return lists.Map(images, func(i talos.Image) string { return i.Name }), err
			})(ctx, c, args)
		},
	}, "ImageRemoveList", cmdutil.NodeChange[image.RemoveResult]{
		Begun: func(r image.RemoveResult) bool { return r.Digest != "" || r.Status == runbook.Interrupted },
		Columns: []output.Column[image.RemoveResult]{
			{Header: "STATUS", State: true, Value: func(r image.RemoveResult) string { return string(r.Status) }},
			{Header: "REMOVED", Value: func(r image.RemoveResult) string { return fmt.Sprint(len(r.RemovedNames)) }},
			{Header: "STILL HELD BY", Value: func(r image.RemoveResult) string { return output.Count(len(r.RemainingRefs), "name") }},
			{Header: "SIZE", Value: func(r image.RemoveResult) string { return output.Bytes(r.SizeBytes) }},
			{Header: "REMAINING NAMES", Wide: true, Value: func(r image.RemoveResult) string { return strings.Join(r.RemainingRefs, " ") }},
			{Header: "USED BY", Wide: true, Value: func(r image.RemoveResult) string { return strings.Join(r.UsedBy, " ") }},
			{Header: "DIGEST", Wide: true, Value: func(r image.RemoveResult) string { return r.Digest }},
		},
		Name: func(r image.RemoveResult) string { return r.Digest },
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) (image.RemoveResult, error) {
		return image.Remove(ctx, n, image.RemoveRequest{Namespace: namespace, Reference: c.Args[0], AllRefs: allRefs, DryRun: c.DryRun, Limit: c.Timeout()}, n.Name())
	})
}
