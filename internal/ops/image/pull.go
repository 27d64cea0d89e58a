package image

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// PullResult is what a pull did on one node.
type PullResult struct {
	talos.NodeRef

	Namespace      string         `json:"namespace"`             // cri or system.
	Reference      string         `json:"reference"`             // The image as requested.
	Status         runbook.Status `json:"status"`                // planned, pulled, failed, unknown (the answer was lost) or interrupted (the node cancels the pull or finishes it on its own).
	Image          string         `json:"image"`                 // The name that the node returned, digest-pinned from Talos 1.13 on.
	Present        bool           `json:"present_before"`        // Whether the node had an image of that name before.
	Layers         int            `json:"layers"`                // How many layers the node reported; 0 before Talos 1.13.
	TotalBytes     int64          `json:"total_bytes"`           // The layers that were fetched, as far as the node reported.
	AnswerLost     bool           `json:"answer_lost,omitempty"` // Whether the answer was lost and the list read back.
	ElapsedSeconds float64        `json:"elapsed_seconds"`       // How long it took.
}

// maxLayers bounds how many layers of an image are tracked; no working image has more.
const maxLayers = 1000

// Puller has the calls that a pull makes to a node; *talos.Node implements it.
type Puller interface {
	Images(ctx context.Context, namespace string) ([]talos.Image, error)
	PullImage(ctx context.Context, namespace, ref string, progress func(talos.PullProgress)) (string, error)
}

// Pull makes a node pull an image, for at most limit, and verifies that the node has it.
func Pull(ctx context.Context, n Puller, namespace, ref string, dryRun bool, limit time.Duration, tell progress.Sink, node string) (PullResult, error) {
	started := time.Now()
	res := PullResult{Namespace: namespace, Reference: ref, Status: runbook.Failed}

	before, err := n.Images(ctx, namespace)
	if err != nil {
		return res, res.interrupted(ctx, err, node, "nothing was pulled")
	}

	res.Present = slices.ContainsFunc(before, func(i talos.Image) bool { return i.Name == ref || i.Name == imageref.Canonical(ref) })

	if dryRun {
		res.Status = runbook.Planned

		return res, nil
	}

	layers := map[string]talos.PullProgress{}

	sent := runbook.Request{Limit: limit, Send: func(ctx context.Context) (err error) {
		res.Image, err = n.PullImage(ctx, namespace, ref, func(p talos.PullProgress) {
			if _, known := layers[p.Layer]; !known && len(layers) == maxLayers {
				return
			}

			layers[p.Layer] = p

			var done, total int64
			for _, l := range layers {
				done, total = done+l.Offset, total+l.Total
			}

			res.Layers, res.TotalBytes = len(layers), total
			tell.Emit(progress.Event{
				Time: time.Now(), Node: node, Stage: "pull", Message: p.Layer + " " + p.Status, Current: done, Total: total,
			})
		})

		return err
	}}.Once(ctx)
	res.ElapsedSeconds = time.Since(started).Seconds()

	if err = sent.Err; sent.Answer == runbook.Lost && ctx.Err() == nil {
		err = res.readBack(ctx, n, before, err)
	}

	err = res.interrupted(ctx, err, node, "the node cancels the pull or finishes it on its own: run `talosmate image list`")

	if err == nil {
		res.Status = runbook.Pulled
	}

	tell.Emit(progress.Event{Time: time.Now(), Node: node, Stage: "pull", Message: string(res.Status), Done: true, Failed: err != nil})

	return res, err
}

// interrupted adds to the error of a pull that the user interrupted what remains.
func (r *PullResult) interrupted(ctx context.Context, err error, node, left string) error {
	if err == nil || !errs.ByUser(ctx) {
		return err
	}

	r.Status = runbook.Interrupted

	return errs.BrokenOff(ctx, fmt.Sprintf("pull %s on %s", r.Reference, node), left)
}

// readBack decides whether a pull whose answer was lost was done: the name exists, and did not exist before, or is
// newer than before.
func (r *PullResult) readBack(ctx context.Context, n Puller, before []talos.Image, cause error) error {
	r.AnswerLost = true

	now, err := n.Images(ctx, r.Namespace)
	if err != nil {
		r.Status = runbook.Unknown

		return runbook.UnknownOutcome("whether the image was pulled could not be read back: run `talosmate image list`", cause, err)
	}

	made := func(list []talos.Image) time.Time {
		for _, i := range list {
			if (i.Name == r.Reference || i.Name == imageref.Canonical(r.Reference)) && i.Created != nil {
				return *i.Created
			}
		}

		return time.Time{}
	}

	if !made(now).After(made(before)) {
		r.Status = runbook.Unknown

		return runbook.UnknownOutcome("whether the image was pulled is not known, and the node may still be pulling: run `talosmate image list`", cause)
	}

	for _, i := range now {
		if i.Name == r.Reference || i.Name == imageref.Canonical(r.Reference) {
			r.Image = i.Name + "@" + i.Digest
		}
	}

	return nil
}
