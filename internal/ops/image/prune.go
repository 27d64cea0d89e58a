package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/engine"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
)

// Policy says which unused images may go.
type Policy struct {
	Namespace string        // cri or system.
	OlderThan time.Duration // Younger names stay: the pod that needs them may be on its way.
	Keep      int           // This many of each repository stay, the youngest.
	Exclude   []string      // Globs over names (path.Match, and * also over slashes).
}

// Inventory is what a prune looks at.
type Inventory struct {
	Images     []talos.Image
	Containers []talos.Container
	Version    string   // The running Talos version.
	Needed     []string // Further references that must stay: pods bound to the node, static pods.
	Now        time.Time
}

// Candidate is an image that may go, with all its names.
type Candidate struct {
	Image     string     `json:"image"`             // The name that people know it by.
	Digest    string     `json:"digest"`            // Its identity.
	Names     []string   `json:"names"`             // Every name that has to go with it.
	SizeBytes int64      `json:"size_bytes"`        // The size of its content, counted once.
	Created   *time.Time `json:"created,omitempty"` // When its youngest name was made.
}

// Plan is what a prune would remove, and why the rest stays.
type Plan struct {
	TotalImages int         // Images, not names.
	InUse       int         // Images that containers or pods use.
	Candidates  []Candidate // What may go, by name.
	Kept        []Kept      // What stays although no container uses it.
}

// Kept is an unused image that stays.
type Kept struct {
	Image  string `json:"image"`  // The name that people know it by.
	Digest string `json:"digest"` // Its identity.
	Reason string `json:"reason"` // Why it stays.
}

// Make decides what may go. It is pure.
func Make(inv Inventory, p Policy) Plan {
	groups := Group(MarkUse(inv.Images, inv.Containers))
	needed, doubtful := neededDigests(inv)
	plan := Plan{TotalImages: len(groups), Candidates: []Candidate{}, Kept: []Kept{}}

	var loose []talos.Image

	for _, g := range groups {
		if g.InUse || needed[g.Digest] {
			plan.InUse++

			continue
		}

		reason := protect(g, inv, p)
		if reason == "" && doubtful[repository(g.Name)] {
			reason = "something uses this repository under a name that is not in the list"
		}

		if reason != "" {
			plan.Kept = append(plan.Kept, Kept{Image: g.Name, Digest: g.Digest, Reason: reason})

			continue
		}

		loose = append(loose, g)
	}

	keep := youngest(groups, p.Keep)

	for _, g := range loose {
		if keep[g.Digest] {
			plan.Kept = append(plan.Kept, Kept{Image: g.Name, Digest: g.Digest, Reason: fmt.Sprintf("one of the %d youngest of its repository", p.Keep)})

			continue
		}

		plan.Candidates = append(plan.Candidates, Candidate{Image: g.Name, Digest: g.Digest, Names: g.Names, SizeBytes: g.SizeBytes, Created: g.Created})
	}

	return plan
}

// Bytes is the size of all candidates, each image once.
func (p Plan) Bytes() int64 {
	var sum int64
	for _, c := range p.Candidates {
		sum += c.SizeBytes
	}

	return sum
}

// neededDigests resolves what containers and pods refer to. A reference that fits no name leaves its whole
// repository in doubt.
func neededDigests(inv Inventory) (needed, doubtful map[string]bool) {
	ix := newIndex(inv.Images)
	needed, doubtful = map[string]bool{}, map[string]bool{}
	refs := slices.Clone(inv.Needed)

	for _, c := range inv.Containers {
		refs = append(refs, c.Image)
	}

	for _, ref := range refs {
		if digest, ok := ix.find(ref); ok {
			needed[digest] = true
		} else if repo := repository(ref); repo != "" {
			doubtful[repo] = true
		}
	}

	return needed, doubtful
}

// protect says why an unused image must stay. Talos itself keeps kubelet and etcd; the running system's
// installer is the way back after an upgrade (Talos, internal/app/machined/pkg/controllers/runtime/cri_image_gc.go).
func protect(g talos.Image, inv Inventory, p Policy) string {
	if g.Pinned {
		return "pinned"
	}

	for _, n := range g.Names {
		repo := base(repository(n))

		switch {
		case repo == "pause":
			return "the pause image"
		case repo == "kubelet", repo == "etcd":
			return "Talos's own " + repo
		case isInstaller(n) && tag(n) == inv.Version:
			return "the running system's installer"
		case isInstaller(n) && !tagged(g.Names):
			return "an installer of unknown version"
		}

		for _, pattern := range p.Exclude {
			if matches(pattern, n) {
				return "excluded by " + pattern
			}
		}
	}

	if g.Created != nil && inv.Now.Sub(*g.Created) < p.OlderThan {
		return fmt.Sprintf("younger than %s", p.OlderThan)
	}

	return ""
}

// isInstaller knows Talos's own installers and those of an Image Factory, whose repository ends in a
// schematic: factory.talos.dev/metal-installer/SCHEMATIC.
func isInstaller(ref string) bool {
	i, err := registry.ParseInstaller(ref)
	if err != nil {
		return false
	}

	last := base(i.Repository())

	return i.Factory() || last == "installer" || last == "installer-base"
}

func tagged(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return tag(n) != "" })
}

func matches(pattern, ref string) bool {
	if ok, err := path.Match(pattern, ref); err == nil && ok {
		return true
	}

	// A star reaches over slashes too: docker.io/* means everything from there.
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return repository(ref) == pattern
	}

	rest := ref

	for i, part := range parts {
		at := strings.Index(rest, part)
		if at < 0 || (i == 0 && at != 0) {
			return false
		}

		rest = rest[at+len(part):]
	}

	return parts[len(parts)-1] == "" || rest == ""
}

func youngest(groups []talos.Image, keep int) map[string]bool {
	out := map[string]bool{}
	if keep <= 0 {
		return out
	}

	byRepo := map[string][]talos.Image{}

	for _, g := range groups {
		if repo := repository(g.Name); repo != "" {
			byRepo[repo] = append(byRepo[repo], g)
		}
	}

	for _, list := range byRepo {
		slices.SortFunc(list, func(a, b talos.Image) int { return age(b).Compare(age(a)) })

		for _, g := range list[:min(keep, len(list))] {
			out[g.Digest] = true
		}
	}

	return out
}

func age(g talos.Image) time.Time {
	if g.Created == nil {
		return time.Time{}
	}

	return *g.Created
}

// Node is what a prune needs of a node.
type Node interface {
	Version(ctx context.Context) (talos.Version, error)
	Images(ctx context.Context, namespace string) ([]talos.Image, error)
	Containers(ctx context.Context, namespace string) ([]talos.Container, error)
	StaticPodImages(ctx context.Context) ([]string, error)
	RemoveImage(ctx context.Context, namespace, name string) error
	Mounts(ctx context.Context) ([]talos.Mount, error)
}

// Removal is an image that went, or a name that would not go.
type Removal struct {
	Image string `json:"image"`           // The name that people know it by.
	Name  string `json:"name,omitempty"`  // The name that would not go.
	Error string `json:"error,omitempty"` // Why not.
}

// Result is what a prune did on one node.
type Result struct {
	talos.NodeRef

	DryRun                   bool        `json:"dry_run"`                     // Whether nothing was removed, only shown.
	Status                   string      `json:"status"`                      // ok or partial.
	Namespace                string      `json:"namespace"`                   // cri or system.
	PodsChecked              bool        `json:"pods_checked"`                // Whether Kubernetes was asked which pods are bound to the node.
	TotalImages              int         `json:"total_images"`                // Images, not names.
	InUseImages              int         `json:"in_use_images"`               // Images that containers or pods use.
	CandidateCount           int         `json:"candidate_count"`             // Images that may go.
	CandidateBytes           int64       `json:"candidate_bytes"`             // Their size, each image once.
	Candidates               []Candidate `json:"candidates"`                  // What may go; never null.
	Kept                     []Kept      `json:"kept"`                        // What stays although unused; never null.
	Removed                  []Removal   `json:"removed"`                     // What went; never null.
	Failed                   []Removal   `json:"failed"`                      // What would not go; never null.
	DiskAvailableBeforeBytes uint64      `json:"disk_available_before_bytes"` // Free space under /var before.
	DiskAvailableAfterBytes  uint64      `json:"disk_available_after_bytes"`  // And after; the same in a dry run.
	FreedBytes               int64       `json:"freed_bytes"`                 // The difference.
}

// Request is one node's prune.
type Request struct {
	Policy      Policy
	Needed      []string // References that pods bound to the node use.
	PodsChecked bool
	Apply       bool
	Now         time.Time
}

// Prune plans and, if asked to, removes. Both statuses and the failed names are in the result; the error is
// for what kept the prune from being done at all.
func Prune(ctx context.Context, n Node, req Request, tell progress.Sink, node string) (Result, error) {
	inv, err := survey(ctx, n, req)
	if err != nil {
		return Result{}, err
	}

	if req.Apply && talos.UpgradeAPI(inv.Version) == talos.APILegacy {
		return Result{}, errs.New(errs.Failed, "cannot remove images on %s: Talos %s has no call for it", node, inv.Version).
			WithKind(errs.KindUnimplemented).WithHint("the node runs Talos %s; this needs v1.13 or newer", inv.Version).OnNode(node)
	}

	plan := Make(inv, req.Policy)

	before, err := available(ctx, n)
	if err != nil {
		return Result{}, err
	}

	res := Result{
		DryRun: !req.Apply, Status: "ok", Namespace: req.Policy.Namespace, PodsChecked: req.PodsChecked, TotalImages: plan.TotalImages,
		InUseImages: plan.InUse, CandidateCount: len(plan.Candidates), CandidateBytes: plan.Bytes(), Candidates: plan.Candidates,
		Kept: plan.Kept, Removed: []Removal{}, Failed: []Removal{}, DiskAvailableBeforeBytes: before, DiskAvailableAfterBytes: before,
	}

	if !req.Apply || len(plan.Candidates) == 0 {
		return res, nil
	}

	remove(ctx, n, plan, &res, tell, node)

	if len(res.Failed) > 0 {
		res.Status = "partial"
	}

	after, err := settle(ctx, n, before, len(res.Removed) > 0)
	if err != nil {
		return res, err
	}

	res.DiskAvailableAfterBytes = after
	res.FreedBytes = int64(after) - int64(before) // disks are smaller than 8 EiB

	return res, nil
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

	containers, err := n.Containers(ctx, req.Policy.Namespace)
	if err != nil {
		return Inventory{}, err
	}

	static, err := n.StaticPodImages(ctx)
	if err != nil {
		return Inventory{}, err
	}

	return Inventory{Images: images, Containers: containers, Version: v.Tag, Needed: append(static, req.Needed...), Now: req.Now}, nil
}

// remove takes every name of each candidate away: the content goes with the last one. A name that is gone
// already is no failure, since a name may take its siblings along.
func remove(ctx context.Context, n Node, plan Plan, res *Result, tell progress.Sink, node string) {
	for i, c := range plan.Candidates {
		tell.Emit(progress.Event{
			Time: time.Now(), Node: node, Stage: "prune", Message: "removing " + c.Image, Current: int64(i), Total: int64(len(plan.Candidates)),
		})

		failed := false

		for _, name := range c.Names {
			err := n.RemoveImage(ctx, res.Namespace, name)
			if err != nil && talos.KindOf(err) != errs.KindNotFound {
				failed = true

				res.Failed = append(res.Failed, Removal{Image: c.Image, Name: name, Error: err.Error()})
			}
		}

		if !failed {
			res.Removed = append(res.Removed, Removal{Image: c.Image})
		}
	}

	tell.Emit(progress.Event{Time: time.Now(), Node: node, Stage: "prune", Message: fmt.Sprintf("removed %d images", len(res.Removed)), Done: true})
}

// settle waits until containerd's garbage collection, which runs a moment after the removal, has stopped
// giving space back.
func settle(ctx context.Context, n Node, before uint64, removed bool) (uint64, error) {
	last, calm := before, 0

	err := engine.Poll(ctx, "containerd to give the space back", 500*time.Millisecond, 15*time.Second, func(ctx context.Context) (bool, string, error) {
		now, err := available(ctx, n)
		if err != nil {
			return false, "", err
		}

		if now == last {
			calm++
		} else {
			calm = 0
		}

		last = now

		return !removed || (calm >= 2 && now > before), fmt.Sprintf("%d bytes available", now), nil
	})
	if errors.Is(err, engine.ErrDeadline) {
		err = nil // the result says what was freed: maybe nothing
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
