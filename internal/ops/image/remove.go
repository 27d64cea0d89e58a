package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// RemoveResult is the result of removing one image on one node.
type RemoveResult struct {
	talos.NodeRef

	Namespace     string         `json:"namespace"`             // cri or system.
	Reference     string         `json:"reference"`             // The image as requested.
	Digest        string         `json:"digest"`                // The image's digest.
	Status        runbook.Status `json:"status"`                // planned, removed, untagged (other names keep the content), failed or interrupted.
	SizeBytes     int64          `json:"size_bytes"`            // The size of the image's content, which is removed with its last name.
	RemovedNames  []string       `json:"removed_names"`         // The names that were or would be removed; never null.
	RemainingRefs []string       `json:"remaining_refs"`        // The names that still hold the content; never null.
	UsedBy        []string       `json:"used_by"`               // Containers that use the image, or kubelet or etcd; never null.
	AnswerLost    bool           `json:"answer_lost,omitempty"` // Whether an answer was lost and the list read back.

	names []string // What is to be removed, once the first request was sent.
}

// RemoveRequest selects what to remove.
type RemoveRequest struct {
	Namespace string
	Reference string
	AllRefs   bool // Every name of the image.
	DryRun    bool
	Limit     time.Duration // The time limit for removing one name.
}

// Remove removes one name of an image, or all of them. The content is removed with the last name only.
func Remove(ctx context.Context, n Node, req RemoveRequest, node string) (RemoveResult, error) {
	res := RemoveResult{Namespace: req.Namespace, Reference: req.Reference, RemovedNames: []string{}, RemainingRefs: []string{}, UsedBy: []string{}}

	err := res.remove(ctx, n, req, node)
	if err != nil && errs.ByUser(ctx) {
		res.Status = runbook.Interrupted
		err = errs.BrokenOff(ctx, fmt.Sprintf("remove %s on %s", req.Reference, node), res.leftovers(ctx, n))
	}

	return res, err
}

// readBackLimit bounds the read of the state after an interruption.
const readBackLimit = 5 * time.Second

// leftovers describes what an interruption left. It reads the state on a context of its own.
func (r *RemoveResult) leftovers(ctx context.Context, n Node) string {
	if r.names == nil {
		return "nothing was removed"
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBackLimit)
	defer cancel()

	left, err := n.Images(ctx, r.Namespace)
	if err != nil {
		return "what was removed could not be read back: run `talosmate image list`"
	}

	r.compare(left, r.names)

	return fmt.Sprintf("%d of the image's %d names were seen to be removed: run `talosmate image list`", len(r.RemovedNames), len(r.names))
}

func (r *RemoveResult) remove(ctx context.Context, n Node, req RemoveRequest, node string) error {
	images, err := n.Images(ctx, req.Namespace)
	if err != nil {
		return err
	}

	usage, err := ReadUsage(ctx, n, req.Namespace)
	if err != nil {
		return err
	}

	names, err := r.find(usage.Mark(images), req, node)
	if err != nil {
		return err
	}

	if req.DryRun {
		r.Status, r.RemovedNames = runbook.Planned, names

		return nil
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	r.Status, r.names = runbook.Failed, names

	var lost error

	for _, name := range names {
		sent := removal(ctx, n, req.Namespace, name, req.Limit)

		switch {
		case sent.Answer == runbook.Lost && ctx.Err() == nil:
			// The list below shows whether it was done.
			r.AnswerLost, lost = true, sent.Err
		case sent.Err != nil:
			return sent.Err
		}
	}

	left, err := n.Images(ctx, req.Namespace)
	if err != nil {
		return runbook.UnknownOutcome("what was removed could not be read back: run `talosmate image list`", err)
	}

	return r.settle(left, names, lost)
}

// removal sends the removal of one name. A name that does not exist any more counts as removed.
func removal(ctx context.Context, n Node, namespace, name string, limit time.Duration) runbook.Sent {
	return runbook.Request{Limit: limit, Send: func(ctx context.Context) error {
		err := n.RemoveImage(ctx, namespace, name)
		if conn.KindOf(err) == errs.KindNotFound {
			return nil
		}

		return err
	}}.Once(ctx)
}

// find looks up the image and the names to remove.
func (r *RemoveResult) find(images []talos.Image, req RemoveRequest, node string) ([]string, error) {
	digest, ok := newIndex(images).find(req.Reference)
	if !ok {
		return nil, errs.New(errs.Failed, "cannot remove %s on %s: there is no such image in the %s namespace", req.Reference, node, req.Namespace).
			WithKind(errs.KindNotFound).WithHint("%s", errs.CommandLine("image", "list", "-n", node, "--namespace", req.Namespace))
	}

	r.Digest = digest

	var all, exact []string

	for _, img := range images {
		if img.Digest != digest {
			continue
		}

		r.SizeBytes, r.UsedBy = img.SizeBytes, append([]string{}, img.UsedBy...)
		all = append(all, img.Name)

		if img.Name == req.Reference || img.Name == imageref.Canonical(req.Reference) {
			exact = append(exact, img.Name)
		}
	}

	slices.Sort(all)

	if req.AllRefs || len(exact) == 0 {
		exact = all
	}

	// The other names of a tag are removed before it, so that a removal that stops midway leaves the name that people
	// use.
	lists.Sort(exact, func(a, b string) int { return rank(talos.ImageKind(b, digest)) - rank(talos.ImageKind(a, digest)) })

	r.RemainingRefs = append(r.RemainingRefs, lists.Filter(all, func(name string) bool { return !slices.Contains(exact, name) })...)

	return exact, nil
}

// compare checks the names to remove against those that are left, and returns the ones that remain.
func (r *RemoveResult) compare(left []talos.Image, names []string) (stayed []string) {
	r.RemainingRefs = []string{}

	for _, img := range left {
		if img.Digest == r.Digest {
			r.RemainingRefs = append(r.RemainingRefs, img.Name)

			if slices.Contains(names, img.Name) {
				stayed = append(stayed, img.Name)
			}
		}
	}

	r.RemovedNames = append(r.RemovedNames, lists.Filter(names, func(name string) bool { return !slices.Contains(stayed, name) })...)

	return stayed
}

// settle sets the status.
func (r *RemoveResult) settle(left []talos.Image, names []string, lost error) error {
	stayed := r.compare(left, names)

	switch {
	case len(stayed) > 0 && lost != nil:
		return runbook.UnknownOutcome("whether the node still removes them is not known: run `talosmate image list`", lost,
			fmt.Errorf("the node still lists %s", strings.Join(stayed, ", ")))
	case len(stayed) > 0:
		return errs.New(errs.Failed, "cannot remove %s: the node still lists it", strings.Join(stayed, ", "))
	case len(r.RemainingRefs) > 0:
		r.Status = runbook.Untagged
	default:
		r.Status = runbook.Removed
	}

	return nil
}
