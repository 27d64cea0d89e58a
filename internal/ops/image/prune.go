package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Node has the calls that a prune makes to a node.
type Node interface {
	Version(ctx context.Context) (talos.Version, error)
	Images(ctx context.Context, namespace string) ([]talos.Image, error)
	Reader
	StaticPodImages(ctx context.Context) ([]string, error)
	RemoveImage(ctx context.Context, namespace, name string) error
	Mounts(ctx context.Context) ([]talos.Mount, error)
}

// Removal is a removed image, or a name that could not be removed.
type Removal struct {
	Image string `json:"image"`           // The name that people use for it.
	Name  string `json:"name,omitempty"`  // The name that could not be removed.
	Error string `json:"error,omitempty"` // Why not.
}

// Result is what a prune did on one node.
type Result struct {
	talos.NodeRef

	DryRun                   bool               `json:"dry_run"`                     // Whether it was a preview.
	Status                   runbook.Status     `json:"status"`                      // ok, partial, refused, interrupted, or unknown: what was freed could not be read.
	Namespace                string             `json:"namespace"`                   // cri or system.
	PodsChecked              bool               `json:"pods_checked"`                // Whether the pods bound to the node were read from Kubernetes.
	PodsError                string             `json:"pods_error,omitempty"`        // Why they could not be read; empty also for a node without Kubernetes, and for the system namespace.
	UnreadSpecs              []talos.UnreadSpec `json:"unread_specs"`                // The services whose image is not known, so that images that may be theirs are kept; never null.
	Gates                    []gate.Verdict     `json:"gates"`                       // The verdicts about this node; never null.
	TotalImages              int                `json:"total_images"`                // Images, not names.
	InUseImages              int                `json:"in_use_images"`               // Images that containers, pods, the kubelet or etcd use.
	CandidateCount           int                `json:"candidate_count"`             // Images that may be removed.
	CandidateBytes           int64              `json:"candidate_bytes"`             // Their size, each image once.
	Candidates               []Candidate        `json:"candidates"`                  // What may be removed; never null.
	Kept                     []Kept             `json:"kept"`                        // What is kept although unused; never null.
	Removed                  []Removal          `json:"removed"`                     // What was removed; never null.
	Failed                   []Removal          `json:"failed"`                      // What could not be removed; never null.
	DiskAvailableBeforeBytes uint64             `json:"disk_available_before_bytes"` // Free space under /var before.
	DiskAvailableAfterBytes  uint64             `json:"disk_available_after_bytes"`  // Free space afterwards; the same in a preview.
	FreedBytes               int64              `json:"freed_bytes"`                 // The difference; 0 with the status unknown.
}

// KeptFor is how many images are kept because they may be the image of a service.
func (r Result) KeptFor(s talos.UnreadSpec) int {
	return len(lists.Filter(r.Kept, func(k Kept) bool { return k.Reason == mayBe(s) }))
}

// Request is one node's prune.
type Request struct {
	Policy      Policy
	Needed      []string // References that pods bound to the node use.
	PodsChecked bool
	PodsError   string // Why the pods bound to the node could not be read; empty if they were, or need not be.
	WithoutPods bool   // Remove images even so.
	Overrides   gate.Overrides
	Apply       bool
	Limit       time.Duration // The time limit for removing one name.
	Now         time.Time
}

// Prune plans and, if requested, removes. Both statuses and the failed names are in the result; the error is for a
// prune that could not run at all.
func Prune(ctx context.Context, n Node, req Request, tell progress.Sink, node string) (Result, error) {
	inv, err := survey(ctx, n, req)
	if err != nil {
		return Result{}, err
	}

	if req.Apply && release.UpgradeAPI(inv.Version) == release.APILegacy {
		return Result{}, errs.New(errs.Failed, "cannot remove images on %s: Talos %s has no call for it", node, inv.Version).
			WithKind(errs.KindUnimplemented).WithHint("the node runs Talos %s; this needs v1.13 or newer", inv.Version).OnNode(node)
	}

	plan := Make(inv, req.Policy)

	before, err := available(ctx, n)
	if err != nil {
		return Result{}, err
	}

	res := Result{
		DryRun: !req.Apply, Status: runbook.OK, Namespace: req.Policy.Namespace, PodsChecked: req.PodsChecked, PodsError: req.PodsError,
		UnreadSpecs: append([]talos.UnreadSpec{}, inv.Usage.Unread...), Gates: []gate.Verdict{}, TotalImages: plan.TotalImages,
		InUseImages: plan.InUse, CandidateCount: len(plan.Candidates), CandidateBytes: plan.Bytes(), Candidates: plan.Candidates,
		Kept: plan.Kept, Removed: []Removal{}, Failed: []Removal{}, DiskAvailableBeforeBytes: before, DiskAvailableAfterBytes: before,
	}

	if err = res.judge(req, node); err != nil || !req.Apply || len(plan.Candidates) == 0 {
		return res, err
	}

	lost := remove(ctx, n, plan, &res, req.Limit, tell, node)

	if len(res.Failed) > 0 {
		res.Status = runbook.Partial
	}

	after, err := settle(ctx, n, before, len(res.Removed) > 0)
	if err != nil || lost != nil {
		res.Status = runbook.Unknown
		if ctx.Err() != nil {
			res.Status = runbook.Interrupted
		}

		return res, errors.Join(lost, err)
	}

	res.DiskAvailableAfterBytes = after
	res.FreedBytes = int64(after) - int64(before) //nolint:gosec // G115: disks are smaller than 8 EiB

	return res, nil
}

// judge refuses to remove images while the pods that may need them are not known.
func (r *Result) judge(req Request, node string) error {
	if req.PodsError == "" {
		return nil
	}

	outcome := gate.Refuse
	if req.WithoutPods || !req.Apply {
		outcome = gate.Warn
	}

	r.Gates = append(r.Gates, gate.New(gate.KubernetesAway, outcome, "", // the caller knows the address
		"Kubernetes could not be asked for the pods of %s, whose images may look unused: %s", node, req.PodsError).
		WithRemedy("make the Kubernetes API reachable, or prune without its pods: --without-pods"))

	err := gate.Apply(r.Gates, req.Overrides)
	if err != nil {
		r.Status = runbook.Refused
	}

	return err
}

func survey(ctx context.Context, n Node, req Request) (Inventory, error) {
	v, err := n.Version(ctx)
	if err != nil {
		return Inventory{}, err
	}

	images, err := n.Images(ctx, req.Policy.Namespace)
	if err != nil {
		return Inventory{}, err
	}

	usage, err := ReadUsage(ctx, n, req.Policy.Namespace)
	if err != nil {
		return Inventory{}, err
	}

	if req.Policy.Namespace != talos.NamespaceSystem {
		system, err := n.SystemImages(ctx)
		if err != nil {
			return Inventory{}, err
		}

		usage.addSystem(system)
	}

	static, err := n.StaticPodImages(ctx)
	if err != nil {
		return Inventory{}, err
	}

	usage.AddReferences(static...)
	usage.AddReferences(req.Needed...)

	return Inventory{Images: images, Usage: usage, Version: v.Tag, Now: req.Now}, nil
}

// remove removes every name of each candidate: the content is freed with the last one. A name that does not exist any
// more is not a failure, since removing one name may remove others. It stops at a lost answer, and returns what could
// not be read back.
func remove(ctx context.Context, n Node, plan Plan, res *Result, limit time.Duration, tell progress.Sink, node string) error {
	for i, c := range plan.Candidates {
		tell.Emit(progress.Event{
			Time: time.Now(), Node: node, Stage: "prune", Message: "removing " + c.Image, Current: int64(i), Total: int64(len(plan.Candidates)),
		})

		failed := false

		for _, name := range c.Names {
			sent := removal(ctx, n, res.Namespace, name, limit)
			if sent.Answer == runbook.Lost {
				if err := stillThere(ctx, n, res.Namespace, name, sent); err != nil {
					res.Failed = append(res.Failed, Removal{Image: c.Image, Name: name, Error: err.Error()})

					return err
				}
			} else if sent.Err != nil {
				failed = true

				res.Failed = append(res.Failed, Removal{Image: c.Image, Name: name, Error: sent.Err.Error()})
			}
		}

		if !failed {
			res.Removed = append(res.Removed, Removal{Image: c.Image})
		}
	}

	tell.Emit(progress.Event{Time: time.Now(), Node: node, Stage: "prune", Message: fmt.Sprintf("removed %d images", len(res.Removed)), Done: true})

	return nil
}

// stillThere reads back a removal whose answer was lost: nil when the name is gone.
func stillThere(ctx context.Context, n Node, namespace, name string, sent runbook.Sent) error {
	return sent.ReadBack(ctx, name+" to be removed", runbook.ShownWithin, "whether the node still removes it is not known: run `talosmate image list`",
		func(ctx context.Context) (bool, string, error) {
			images, err := n.Images(ctx, namespace)
			if err != nil {
				return false, err.Error(), nil //nolint:nilerr // repeated until the deadline
			}

			return !slices.ContainsFunc(images, func(i talos.Image) bool { return i.Name == name }), "the node still lists it", nil
		})
}

// settle waits until containerd's garbage collection, which runs a moment after the removal, has stopped freeing space. The
// error is that of the last reading, if it failed.
func settle(ctx context.Context, n Node, before uint64, removed bool) (uint64, error) {
	var failed error

	last, calm := before, 0

	err := poll.Until(ctx, "containerd to free the space", 500*time.Millisecond, 15*time.Second, func(ctx context.Context) (bool, string, error) {
		now, err := available(ctx, n)

		switch failed = err; {
		case err != nil:
			return false, err.Error(), nil //nolint:nilerr // repeated until the deadline
		case now == last:
			calm++
		default:
			calm = 0
		}

		last = now

		return !removed || (calm >= 2 && now > before), fmt.Sprintf("%d bytes available", now), nil
	})
	if errors.Is(err, poll.ErrDeadline) {
		err = failed // without one, the result shows what was freed, even if nothing was
	}

	return last, err
}

// available is the free space of the file system that holds the images.
func available(ctx context.Context, n Node) (uint64, error) {
	mounts, err := n.Mounts(ctx)
	if err != nil {
		return 0, err
	}

	for _, where := range []string{"/var/lib/containerd", "/var", "/"} {
		at := slices.IndexFunc(mounts, func(m talos.Mount) bool { return m.MountedOn == where && m.SizeBytes > 0 })
		if at >= 0 {
			return mounts[at].AvailableBytes, nil
		}
	}

	return 0, errs.New(errs.Failed, "cannot tell how much space is free: no mount for /var")
}
