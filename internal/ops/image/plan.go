package image

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos"
)

// Policy selects the unused images that may be removed.
type Policy struct {
	Namespace string        // cri or system.
	OlderThan time.Duration // Younger names are kept: the pod that needs them may be about to start.
	Keep      int           // This many of each repository are kept, the youngest.
	Exclude   []string      // Globs over names (path.Match, and * also over slashes).
}

// Inventory is the input of a prune.
type Inventory struct {
	Images  []talos.Image
	Usage   Usage  // What uses them: containers, pods bound to the node, static pods, the kubelet and etcd.
	Version string // The running Talos version.
	Now     time.Time
}

// Candidate is an image that may be removed, with all its names.
type Candidate struct {
	Image     string     `json:"image"`             // The name that people use for it.
	Digest    string     `json:"digest"`            // Its digest.
	Names     []string   `json:"names"`             // Every name that is removed with it.
	SizeBytes int64      `json:"size_bytes"`        // The size of its content, counted once.
	Created   *time.Time `json:"created,omitempty"` // When its youngest name was made.
}

// Plan is what a prune would remove, and why the other images are kept.
type Plan struct {
	TotalImages int         // Images, not names.
	InUse       int         // Images that containers, pods, the kubelet or etcd use.
	Candidates  []Candidate // What may be removed, by name.
	Kept        []Kept      // What is kept although nothing is known to use it.
}

// Kept is an unused image that is kept.
type Kept struct {
	Image  string `json:"image"`  // The name that people use for it.
	Digest string `json:"digest"` // Its digest.
	Reason string `json:"reason"` // Why it is kept.
}

// Make decides what may be removed. It is pure.
func Make(inv Inventory, p Policy) Plan {
	marked, doubtful := inv.Usage.mark(inv.Images)
	groups := Group(marked)
	plan := Plan{TotalImages: len(groups), Candidates: []Candidate{}, Kept: []Kept{}}

	var loose []talos.Image

	for _, g := range groups {
		if g.InUse {
			plan.InUse++

			continue
		}

		reason := protect(g, inv, p)
		if reason == "" && slices.ContainsFunc(g.Names, func(n string) bool { return doubtful[imageref.Repository(n)] }) {
			reason = "this repository is in use under a name that is not in the list"
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

// protect explains why an image that nothing is known to use must be kept. Where the image of the kubelet or of etcd is
// not known, no image that may be it is removed. The running system's installer is needed to install it again.
func protect(g talos.Image, inv Inventory, p Policy) string {
	if g.Pinned {
		return "pinned"
	}

	for _, n := range g.Names {
		repo := base(imageref.Repository(n))

		switch {
		case repo == "pause":
			return "the pause image"
		case isInstaller(n) && imageref.Split(n).Tag == inv.Version:
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

	if s, may := inv.Usage.unread(g.Names); may {
		return mayBe(s)
	}

	if g.Created != nil && inv.Now.Sub(*g.Created) < p.OlderThan {
		return fmt.Sprintf("younger than %s", p.OlderThan)
	}

	return ""
}

// mayBe is the reason that keeps an image while that of a service is not known.
func mayBe(s talos.UnreadSpec) string {
	return fmt.Sprintf("may be the image of %s, whose spec cannot be read: %s", s.Service, s.Reason)
}

// isInstaller recognises Talos's own installers and those of an Image Factory, whose repository ends in a schematic:
// factory.talos.dev/metal-installer/SCHEMATIC.
func isInstaller(ref string) bool {
	i, err := registry.ParseInstaller(ref)
	if err != nil {
		return false
	}

	last := base(i.Repository())

	return i.Factory() || last == "installer" || last == "installer-base"
}

func tagged(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return imageref.Split(n).Tag != "" })
}

func matches(pattern, ref string) bool {
	if ok, err := path.Match(pattern, ref); err == nil && ok {
		return true
	}

	// A star also matches slashes: docker.io/* matches everything from there.
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return imageref.Repository(ref) == pattern
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
		if repo := imageref.Repository(g.Name); repo != "" {
			byRepo[repo] = append(byRepo[repo], g)
		}
	}

	for _, list := range byRepo {
		lists.Sort(list, func(a, b talos.Image) int { return age(b).Compare(age(a)) })

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
