package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

type pruneOptions struct {
	policy image.Policy
}

func newCmdPrune(f *cmdutil.Factory) *cmdutil.Cmd {
	var o pruneOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "prune", Short: "Remove the images that nothing uses",
		Long: "Remove the images that nothing uses, under all their names, so that their space is really freed.\n" +
			"Without --apply they are only shown, as with --dry-run.\n\n" +
			"An image stays when a container uses it under any of its names, when Kubernetes has bound a pod with it\n" +
			"to the node (if Kubernetes can be asked), when it is pinned, when it belongs to a static pod, when it is\n" +
			"pause, kubelet, etcd or the running system's installer, when it is younger than --older-than, one of the\n" +
			"--keep youngest of its repository, or matched by --exclude. Images are identified by digest.",
		Example: "  talosmate image prune -n worker-1\n" +
			"  talosmate image prune -A --apply -o json --query '[.items[].freed_bytes] | .[] as $b ireduce (0; . + $b)'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Since: "v1.13"},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &o.policy.Namespace)
			fs.Bool("apply", false, "remove the images; without it they are only shown, as with --dry-run")
			fs.Exclusive("apply", "dry-run")
			fs.DurationVar(&o.policy.OlderThan, "older-than", 10*time.Minute, "leave images alone that came less than this ago")
			fs.IntVar(&o.policy.Keep, "keep", 0, "keep the N youngest images of each repository")
			fs.NotNegative("older-than", "keep")
			fs.StringSliceVar(&o.policy.Exclude, "exclude", nil, "leave images alone whose name matches this glob (repeatable)")
		},
	}, cmdutil.ListOf[image.Result]("ImagePruneList"), o.run)
}

func (o *pruneOptions) run(c *cmdutil.Call) error {
	for _, pattern := range o.policy.Exclude {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" { // it would exclude nothing
			return errs.Usagef("bad glob %q in --exclude", pattern)
		}
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	pods := podImages(c)

	if err = c.Begin(); err != nil {
		return err
	}

	begun := func(r image.Result) bool { return string(r.Status) != "" }

	rows, err := cmdutil.ChangeRows(c, targets, begun, func(ctx context.Context, n *talos.Node) (image.Result, error) {
		needed, asked, err := pods(ctx, n)
		if err != nil {
			return image.Result{}, err
		}

		return image.Prune(ctx, n, image.Request{
			Policy: o.policy, Needed: needed, PodsChecked: asked, Apply: !c.DryRun, Limit: c.Timeout(), Now: time.Now(),
		}, c.Progress(), n.Name())
	})

	for _, r := range rows {
		if r.Status != "ok" && errs.ExitCode(err) != errs.Unknown {
			err = errors.Join(err, errs.New(errs.Partial, "cannot remove %d of the names on %s: %s", len(r.Failed), r.Node, r.Failed[0].Error).OnNode(r.Node))
		}
	}

	return cmdutil.PrintList(c, rows, err, pruneColumns(), func(r image.Result) string { return r.Node })
}

// podImages asks Kubernetes which images the pods bound to a node need. A node that is not a Kubernetes member
// needs no answer; without an answer only the containers count, with a warning.
func podImages(c *cmdutil.Call) func(context.Context, *talos.Node) ([]string, bool, error) {
	var warned sync.Once

	return func(ctx context.Context, n *talos.Node) ([]string, bool, error) {
		name, err := n.KubernetesName(ctx)
		if err != nil || name == "" {
			return nil, false, err
		}

		client, err := c.Kubernetes(c.Context())
		if errs.IsUntrusted(err) {
			return nil, false, err
		}

		if err != nil {
			warned.Do(func() {
				c.Warn("Kubernetes cannot be asked which pods are bound to the nodes (%v): the images of pods that are not running look unused", err)
			})

			return nil, false, nil
		}

		return askPods(ctx, c, client, name)
	}
}

func askPods(ctx context.Context, c *cmdutil.Call, client *kube.Client, name string) ([]string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	images, err := client.PodImages(ctx, name)
	if err != nil {
		c.Warn("%v: the images of pods that are not running look unused", err)

		return nil, false, nil
	}

	return images, true, nil
}

func pruneColumns() []output.Column[image.Result] {
	return []output.Column[image.Result]{
		{Header: "NODE", Value: func(r image.Result) string { return cmp.Or(r.Hostname, r.Node) }},
		{Header: "IMAGES", Value: func(r image.Result) string { return fmt.Sprint(r.TotalImages) }},
		{Header: "IN USE", Value: func(r image.Result) string { return fmt.Sprint(r.InUseImages) }},
		{Header: "KEPT", Wide: true, Value: func(r image.Result) string { return fmt.Sprint(len(r.Kept)) }},
		{Header: "CANDIDATES", Value: func(r image.Result) string { return fmt.Sprint(r.CandidateCount) }},
		{Header: "CANDIDATE SIZE", Value: func(r image.Result) string { return output.Bytes(r.CandidateBytes) }},
		{Header: "REMOVED", Value: func(r image.Result) string {
			if r.DryRun {
				return "(dry run)"
			}

			return fmt.Sprint(len(r.Removed))
		}},
		{Header: "FREED", Value: func(r image.Result) string { return output.Bytes(r.FreedBytes) }},
		{Header: "STATUS", Value: func(r image.Result) string { return string(r.Status) }},
	}
}
