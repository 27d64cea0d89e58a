// Package image knows which images of a node are in use, and removes those that are not.
package image

import (
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/talos"
)

// index finds an image by any of its names. Images are distinguished by digest, never by parts of a name.
type index struct {
	digests map[string]string // Name in every spelling → digest.
}

func newIndex(images []talos.Image) index {
	ix := index{digests: map[string]string{}}

	for _, img := range images {
		ix.digests[img.Name] = img.Digest
		ix.digests[img.Digest] = img.Digest
	}

	// Spellings come second, so that they never hide an actual name.
	for _, img := range images {
		if full := imageref.Canonical(img.Name); full != "" {
			if _, taken := ix.digests[full]; !taken {
				ix.digests[full] = img.Digest
			}
		}
	}

	return ix
}

// find resolves a reference as a container, a pod or a user gives it: a tag, a digest form, a bare ID, or a short name
// such as nginx.
func (ix index) find(ref string) (digest string, ok bool) {
	if digest, ok = ix.digests[ref]; ok {
		return digest, true
	}

	if full := imageref.Canonical(ref); full != "" {
		if digest, ok = ix.digests[full]; ok {
			return digest, true
		}
	}

	// repo:tag@sha256:… names the digest whatever the tag says.
	if manifest := imageref.Split(ref).Digest; manifest != "" {
		digest, ok = ix.digests[manifest]
	}

	return digest, ok
}

// MarkUse marks the images that containers use, under whatever name the container has.
func MarkUse(images []talos.Image, containers []talos.Container) []talos.Image {
	ix := newIndex(images)
	users := map[string][]string{}

	for _, c := range containers {
		if digest, ok := ix.find(c.Image); ok {
			users[digest] = append(users[digest], c.ID)
		}
	}

	out := slices.Clone(images)

	for i := range out {
		by := users[out[i].Digest]
		slices.Sort(by)
		out[i].UsedBy, out[i].InUse = slices.Compact(by), len(by) > 0
	}

	return out
}

// Group merges the names of each image into one row, named by its tag where it has one.
func Group(images []talos.Image) []talos.Image {
	byDigest := map[string]*talos.Image{}
	order := []string{}

	for _, img := range images {
		g, known := byDigest[img.Digest]
		if !known {
			first := img
			first.Names = nil
			byDigest[img.Digest], g = &first, &first
			order = append(order, img.Digest)
		}

		g.Names = append(g.Names, img.Name)
		g.Pinned = g.Pinned || img.Pinned
		g.InUse = g.InUse || img.InUse

		if rank(img.Kind) < rank(g.Kind) || (img.Kind == g.Kind && img.Name < g.Name) {
			g.Name, g.Kind = img.Name, img.Kind
		}

		if img.Created != nil && (g.Created == nil || img.Created.After(*g.Created)) {
			g.Created = img.Created
		}
	}

	out := make([]talos.Image, 0, len(order))

	for _, digest := range order {
		slices.Sort(byDigest[digest].Names)
		out = append(out, *byDigest[digest])
	}

	return Sort(out)
}

// Sort orders images by name.
func Sort(images []talos.Image) []talos.Image {
	slices.SortFunc(images, func(a, b talos.Image) int { return strings.Compare(a.Name, b.Name) })

	return images
}

func rank(kind string) int {
	return slices.Index([]string{talos.ImageTag, talos.ImageDigest, talos.ImageID}, kind)
}

func base(repo string) string { return path.Base(repo) }
