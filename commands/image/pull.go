package image

import (
	"context"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdPull(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		namespace string
		limit     time.Duration
	)

	return cmdutil.NewNodeChange(f, cmdutil.Command{
		Use: "pull REF", Short: "Make nodes fetch an image",
		Long: "Make nodes fetch an image into one of their two containerd instances. The answer holds the digest-pinned\n" +
			"name (from Talos 1.13 on). Talos removes images of the system instance that nothing uses about an hour\n" +
			"after it first saw them unused.",
		Example: "  talosmate image pull registry.k8s.io/pause:3.10 --workers\n" +
			"  talosmate image pull factory.talos.dev/metal-installer/SCHEMATIC:v1.14.1 -n cp-1 --namespace system -o json --query '.items[].image'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Operators()},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &namespace)
			fs.Positive(&limit, "pull-timeout", 15*time.Minute, "how long one node's pull may take")
		},
	}, "ImagePullList", cmdutil.NodeChange[image.PullResult]{
		Begun: func(r image.PullResult) bool { return string(r.Status) != "" },
		Columns: []output.Column[image.PullResult]{
			{Header: "STATUS", State: true, Value: func(r image.PullResult) string { return string(r.Status) }},
			{Header: "IMAGE", Value: func(r image.PullResult) string { return r.Image }},
			{Header: "LAYERS", Value: func(r image.PullResult) string { return fmt.Sprint(r.Layers) }},
			{Header: "SIZE", Value: func(r image.PullResult) string { return output.Bytes(r.TotalBytes) }},
			{Header: "TOOK", Value: func(r image.PullResult) string { return output.Seconds(r.ElapsedSeconds) }},
			{Header: "NAMESPACE", Wide: true, Value: func(r image.PullResult) string { return r.Namespace }},
		},
		Name: func(r image.PullResult) string { return r.Image },
	}, func(ctx context.Context, c *cmdutil.Call, n *talos.Node) (image.PullResult, error) {
		return image.Pull(ctx, n, namespace, c.Args[0], c.DryRun, limit, c.Progress(), n.Name())
	})
}
