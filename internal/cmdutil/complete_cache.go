package cmdutil

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
)

// Bounds of the candidates that are kept between two presses of the tab key.
const (
	cacheAge     = 30 * time.Second
	cacheBytes   = 1 << 20 // Of the file of one cluster.
	cacheEntries = 32      // In the file of one cluster.
	cacheFiles   = 16
)

// cacheEntry is what a cluster answered to one question.
type cacheEntry struct {
	Key        string    `json:"key"`
	Time       time.Time `json:"time"`
	Candidates []string  `json:"candidates"`
}

// cached gives the candidates that the cluster answered less than 30 seconds ago to this question of this command, else
// those that ask finds. An error means none, and nothing is kept then.
func (c *Call) cached(question string, ask func() ([]string, error)) []string {
	path, key := c.cacheFile(), c.cacheKey(question)
	now := c.factory.Now()
	entries := readCache(path, now)

	if at := slices.IndexFunc(entries, func(e cacheEntry) bool { return e.Key == key }); at >= 0 {
		return entries[at].Candidates
	}

	candidates, err := ask()
	if err != nil {
		return nil
	}

	writeCache(path, append(entries, cacheEntry{key, now, candidates}))

	return candidates
}

// cacheFile is the file of the cluster's candidates, named by a hash of what identifies the cluster and the
// certificate; empty where there is none.
func (c *Call) cacheFile() string {
	dir, _ := c.IO.Env("XDG_CACHE_HOME")
	if dir == "" {
		home, _ := c.IO.Env("HOME")
		if home == "" {
			return ""
		}

		dir = filepath.Join(home, ".cache")
	}

	cluster, err := c.Cluster()
	if err != nil || cluster.Context == nil || !filepath.IsAbs(dir) {
		return ""
	}

	return filepath.Join(dir, "talosmate", "completion", hash(cluster.Context.Identity())+".json")
}

// cacheKey tells questions apart: which command asks what about which nodes.
func (c *Call) cacheKey(question string) string {
	sel := c.Selection()
	f := c.Cmd.Flags()

	parts := []any{question, c.Cmd.CommandPath(), c.completes, c.Args, sel.Nodes, sel.All, sel.ControlPlanes, sel.Workers}
	for _, name := range []string{"endpoints", "direct", "namespace"} {
		if flag := f.Lookup(name); flag != nil {
			parts = append(parts, flag.Value.String())
		}
	}

	text, err := json.Marshal(parts)
	if err != nil {
		return ""
	}

	return hash(string(text))
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))

	return hex.EncodeToString(sum[:16])
}

// readCache reads the entries that are young enough. Whatever is wrong with the file, it is not used.
func readCache(path string, now time.Time) []cacheEntry {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > cacheBytes {
		return nil
	}

	text, err := fsutil.ReadFile(path, maxSettings)
	if err != nil {
		return nil
	}

	var entries []cacheEntry
	if json.Unmarshal(text, &entries) != nil {
		return nil
	}

	return slices.DeleteFunc(entries, func(e cacheEntry) bool {
		age := now.Sub(e.Time)

		return age < 0 || age >= cacheAge
	})
}

// writeCache keeps the youngest entries. A cache that cannot be written is none.
func writeCache(path string, entries []cacheEntry) {
	if path == "" {
		return
	}

	text, err := json.Marshal(entries[max(0, len(entries)-cacheEntries):])
	if err != nil || len(text) > cacheBytes || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}

	if fsutil.WriteBytes(path, 0o600, text) == nil {
		pruneCache(filepath.Dir(path))
	}
}

// pruneCache removes the oldest files beyond the number of clusters that are kept.
func pruneCache(dir string) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return
	}

	all = slices.DeleteFunc(all, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".json") })

	lists.Sort(all, func(a, b os.DirEntry) int { return modified(b).Compare(modified(a)) })

	for _, e := range all[min(cacheFiles, len(all)):] {
		_ = os.Remove(filepath.Join(dir, e.Name())) // it is tried again the next time
	}
}

func modified(e os.DirEntry) time.Time {
	info, err := e.Info()
	if err != nil {
		return time.Time{}
	}

	return info.ModTime()
}
