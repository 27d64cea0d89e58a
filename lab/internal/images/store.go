// Package images simulates containerd's image stores of a node and the
// registries behind them.
package images

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Namespace is one of the three stores of a Talos node.
type Namespace string

// The stores, as common.ContainerdInstance selects them.
const (
	CRI      Namespace = "cri"    // driver CRI, NS_CRI: Kubernetes' images
	System   Namespace = "system" // driver CRI, NS_SYSTEM: kubelet, etcd, installers
	InMemory Namespace = "inmem"  // driver CONTAINERD, NS_SYSTEM: on tmpfs, used before the disk is mounted
)

// PinnedLabel marks images that the CRI never collects.
const PinnedLabel = "io.cri-containerd.pinned"

// Image is one name of an image; several names may share a digest.
type Image struct {
	Name    string            `json:"name"`
	Digest  string            `json:"digest"`
	Size    int64             `json:"size_bytes"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Store is the images of one node.
type Store struct {
	mu     sync.Mutex
	images map[Namespace]map[string]Image
	unused map[string]time.Time
}

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{images: map[Namespace]map[string]Image{CRI: {}, System: {}, InMemory: {}}, unused: map[string]time.Time{}}
}

// Names returns the names of an image after a pull: the tag, the digest-pinned name and the bare manifest digest;
// Kubernetes' store also has the image ID.
func Names(ns Namespace, m Manifest) []string {
	names := []string{m.Repository + "@" + m.Digest, m.Digest}
	if m.Tag != "" {
		names = append(names, m.Repository+":"+m.Tag)
	}

	if ns == CRI {
		names = append(names, m.Config)
	}

	return names
}

// Pull adds an image under all its names. Existing names keep their times.
func (s *Store) Pull(ns Namespace, m Manifest, at time.Time, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, name := range Names(ns, m) {
		if old, ok := s.images[ns][name]; ok && old.Digest == m.Digest {
			continue
		}

		s.images[ns][name] = Image{Name: name, Digest: m.Digest, Size: m.Size, Created: at, Labels: maps.Clone(labels)}
	}
}

// Put adds or replaces one name.
func (s *Store) Put(ns Namespace, img Image) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.images[ns][img.Name] = img
}

// Get finds an image by one of its names.
func (s *Store) Get(ns Namespace, name string) (Image, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	img, ok := s.images[ns][name]

	return img, ok
}

// Remove removes one name; it returns false if there was none.
func (s *Store) Remove(ns Namespace, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	_, ok := s.images[ns][name]
	delete(s.images[ns], name)

	return ok
}

// List returns every name of a store in containerd's order, which is by name.
func (s *Store) List(ns Namespace) []Image {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.SortedFunc(maps.Values(s.images[ns]), func(a, b Image) int { return cmp.Compare(a.Name, b.Name) })
}

// Forget resets the times at which the garbage collection first saw images as unused, as a boot does.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.unused = map[string]time.Time{}
}

// Clear empties a store, as a wipe of EPHEMERAL does.
func (s *Store) Clear(namespaces ...Namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, ns := range namespaces {
		s.images[ns] = map[string]Image{}
	}
}

// Used is the disk space of both stores on disk: each blob once, however many names it has.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	blobs := map[string]int64{}

	for _, ns := range []Namespace{CRI, System} {
		for _, img := range s.images[ns] {
			blobs[img.Digest] = img.Size
		}
	}

	var total int64
	for _, size := range blobs {
		total += size
	}

	return total
}

// Collect removes the images of the system store that keep does not name and that have been seen unused for longer than
// age. Talos does this at an interval.
func (s *Store) Collect(now time.Time, age time.Duration, keep func(Image) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	kept := map[string]bool{}

	for _, img := range s.images[System] {
		if keep(img) {
			kept[img.Digest] = true
		}
	}

	var removed []string

	for name, img := range s.images[System] {
		if kept[img.Digest] {
			delete(s.unused, name)

			continue
		}

		since, seen := s.unused[name]
		if !seen {
			s.unused[name] = now

			continue
		}

		if now.Sub(since) > age {
			delete(s.images[System], name)
			delete(s.unused, name)

			removed = append(removed, name)
		}
	}

	slices.Sort(removed)

	return removed
}
