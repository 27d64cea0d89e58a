package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

type pruneOptions struct {
	policy      image.Policy
	withoutPods bool
}

func newCmdPrune(f *cmdutil.Factory) *cmdutil.Cmd {
	var o pruneOptions

	return cmdutil.New(f, cmdutil.Command{
		Use: "prune", Short: "Remove the images that nothing uses",
		Long: "Remove the images that nothing uses, under all their names, so that their space is really freed.\n" +
			"Without --apply they are only shown, as with --dry-run.\n\n" +
			"An image stays when a container uses it under any of its names, when a pod that Kubernetes has bound to the\n" +
			"node or a static pod needs it (also in a volume, an init container or an ephemeral container), when the\n" +
			"kubelet or etcd runs from it, when it is pinned, the pause image or the running system's installer, when it\n" +
			"is younger than --older-than, one of the --keep youngest of its repository, or matched by --exclude. Images\n" +
			"are identified by digest.\n\n" +
			"If Kubernetes cannot be asked for its pods, --apply is refused (gate TM141) unless --without-pods is given.\n" +
			"The system namespace has no images of pods, so Kubernetes is not asked.",
		Example: "  talosmate image prune -n worker-1\n" +
			"  talosmate image prune -A --apply -o json --query '[.items[].freed_bytes] | .[] as $b ireduce (0; . + $b)'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Since: "v1.13"},
		Flags: func(fs *cmdutil.Flags) {
			namespaceFlag(fs, &o.policy.Namespace)
			fs.Bool("apply", false, "remove the images; without it they are only shown, as with --dry-run")
			fs.Exclusive("apply", "dry-run")
			fs.BoolVar(&o.withoutPods, "without-pods", false, "remove images even if Kubernetes cannot be asked which ones its pods need")
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

	if err = c.Begin(); err != nil {
		return err
	}

	begun := func(r image.Result) bool { return string(r.Status) != "" }

	rows, err := cmdutil.ChangeRows(c, targets, begun, func(ctx context.Context, n *talos.Node) (image.Result, error) {
		bound, err := podsOf(ctx, c, n, o.policy.Namespace)
		if err != nil {
			return image.Result{}, err
		}

		return image.Prune(ctx, n, image.Request{
			Policy: o.policy, Needed: bound.images, PodsChecked: bound.asked, PodsError: bound.problem, WithoutPods: o.withoutPods,
			Overrides: c.Overrides, Apply: !c.DryRun, Limit: c.Timeout(), Now: time.Now(),
		}, c.Progress(), n.Name())
	})

	if !c.DryRun || c.Printer.Structured() { // the preview has it in its text
		warn(c, rows)
	}

	for _, r := range rows {
		for i := range r.Gates {
			r.Gates[i].Node = r.Node
		}

		if r.Status == runbook.Partial && errs.ExitCode(err) != errs.Unknown {
			err = errors.Join(err, errs.New(errs.Partial, "cannot remove %d of the names on %s: %s", len(r.Failed), r.Node, r.Failed[0].Error).OnNode(r.Node))
		}
	}

	list := cmdutil.NodeList[image.Result]{Columns: pruneColumns(), Name: func(r image.Result) string { return r.Node }}
	if c.DryRun {
		list.Human = func(w io.Writer, rows []image.Result) error {
			if err := output.Sort(c.Printer, rows); err != nil {
				return err
			}

			return preview(w, rows, time.Now())
		}
	}

	return list.Reading(rows, err).Print(c)
}

// warn reports what could not be asked. An error reports it where that was refused.
func warn(c *cmdutil.Call, rows []image.Result) {
	for _, line := range unasked(lists.Filter(rows, func(r image.Result) bool { return r.Status != runbook.Refused })) {
		c.Warn("%s", line)
	}

	for _, r := range rows {
		for _, s := range r.UnreadSpecs {
			if n := r.KeptFor(s); n > 0 {
				c.Warn("%s of %s kept because any may be that of %s, whose spec cannot be read: %s", output.Count(n, "image"), nodeName(r), s.Service, s.Reason)
			}
		}
	}
}

func pruneColumns() []output.Column[image.Result] {
	return []output.Column[image.Result]{
		{Header: "NODE", Value: nodeName},
		{Header: "IMAGES", Value: func(r image.Result) string { return fmt.Sprint(r.TotalImages) }},
		{Header: "IN USE", Value: func(r image.Result) string { return fmt.Sprint(r.InUseImages) }},
		{Header: "KEPT", Wide: true, Value: func(r image.Result) string { return fmt.Sprint(len(r.Kept)) }},
		{Header: "CANDIDATES", Value: func(r image.Result) string { return fmt.Sprint(r.CandidateCount) }},
		{Header: "CANDIDATE SIZE", Value: func(r image.Result) string { return output.Bytes(r.CandidateBytes) }},
		{Header: "REMOVED", Value: func(r image.Result) string { return fmt.Sprint(len(r.Removed)) }},
		{Header: "FREED", Value: func(r image.Result) string { return output.Bytes(r.FreedBytes) }},
		{Header: "STATUS", State: true, Value: func(r image.Result) string { return string(r.Status) }},
	}
}
