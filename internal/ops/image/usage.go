// Package image knows which images of a node are in use, and removes those that are not.
package image

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
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

// Use is one use of an image.
type Use struct {
	Reference string // The image under any of its names.
	By        string // What uses it: a container's ID, kubelet or etcd. Empty for pods, whose use has no name here.
}

// Usage is what is known about the use of a node's images in one namespace.
type Usage struct {
	Namespace string
	Uses      []Use
	Unread    []talos.UnreadSpec // The services whose image is not known.
}

// Reader has the calls that read the use of images.
type Reader interface {
	Containers(ctx context.Context, namespace string) ([]talos.Container, error)
	SystemImages(ctx context.Context) (talos.SystemImages, error)
}

// ReadUsage reads what the node itself knows: its containers and, in the system namespace, the images of the kubelet and
// etcd.
func ReadUsage(ctx context.Context, n Reader, namespace string) (Usage, error) {
	containers, err := n.Containers(ctx, namespace)
	if err != nil {
		return Usage{}, err
	}

	u := Usage{Namespace: namespace, Uses: lists.Map(containers, func(c talos.Container) Use { return Use{Reference: c.Image, By: c.ID} })}

	if namespace != talos.NamespaceSystem {
		return u, nil
	}

	system, err := n.SystemImages(ctx)
	if err != nil {
		return Usage{}, err
	}

	u.addSystem(system)

	return u, nil
}

func (u *Usage) addSystem(s talos.SystemImages) {
	u.Unread = s.Unread

	for _, use := range []Use{{Reference: s.Kubelet, By: "kubelet"}, {Reference: s.Etcd, By: "etcd"}} {
		if use.Reference != "" {
			u.Uses = append(u.Uses, use)
		}
	}
}

// AddReferences adds images that pods need.
func (u *Usage) AddReferences(references ...string) {
	u.Uses = append(u.Uses, lists.Map(references, func(ref string) Use { return Use{Reference: ref} })...)
}

// resolve finds the images that are in use, by digest, with what uses them. doubtful are the repositories of references
// that match no name: any image of theirs may be the one.
func (u *Usage) resolve(images []talos.Image) (users map[string][]string, doubtful map[string]bool) {
	ix := newIndex(images)
	users, doubtful = map[string][]string{}, map[string]bool{}

	for _, use := range u.Uses {
		digest, ok := ix.find(use.Reference)
		if !ok {
			if repo := imageref.Repository(use.Reference); repo != "" {
				doubtful[repo] = true
			}

			continue
		}

		if users[digest] == nil {
			users[digest] = []string{}
		}

		if use.By != "" {
			users[digest] = append(users[digest], use.By)
		}
	}

	return users, doubtful
}

// unread returns the first service whose image is not known and may be this one. In the system namespace this is every
// image, because a mirror may give the kubelet and etcd any name. In the namespace of Kubernetes, which they do not run
// from, it is an image of that name.
func (u *Usage) unread(names []string) (talos.UnreadSpec, bool) {
	return lists.Find(u.Unread, func(s talos.UnreadSpec) bool {
		return u.Namespace == talos.NamespaceSystem ||
			slices.ContainsFunc(names, func(n string) bool { return path.Base(imageref.Repository(n)) == s.Service })
	})
}

// Mark marks the images that are in use, under whatever name they are used, and those whose use is not known.
func (u *Usage) Mark(images []talos.Image) []talos.Image {
	marked, _ := u.mark(images)

	return marked
}

// mark is Mark, and returns the repositories that are doubtful: see resolve.
func (u *Usage) mark(images []talos.Image) (marked []talos.Image, doubtful map[string]bool) {
	users, doubtful := u.resolve(images)
	unknown := map[string]bool{}

	for _, img := range images {
		if _, may := u.unread([]string{img.Name}); may || doubtful[imageref.Repository(img.Name)] {
			unknown[img.Digest] = true
		}
	}

	marked = slices.Clone(images)

	for i := range marked {
		by, used := users[marked[i].Digest]
		slices.Sort(by)
		marked[i].UsedBy, marked[i].InUse, marked[i].UseUnknown = slices.Compact(by), used, !used && unknown[marked[i].Digest]
	}

	return marked, doubtful
}

// Unused returns the images of which it is known that nothing uses them.
func Unused(images []talos.Image) []talos.Image {
	return lists.Filter(images, func(i talos.Image) bool { return !i.InUse && !i.UseUnknown })
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
		g.UseUnknown = g.UseUnknown || img.UseUnknown

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
	lists.Sort(images, func(a, b talos.Image) int { return strings.Compare(a.Name, b.Name) })

	return images
}

func rank(kind string) int {
	return slices.Index([]string{talos.ImageTag, talos.ImageDigest, talos.ImageID}, kind)
}

func base(repo string) string { return path.Base(repo) }
