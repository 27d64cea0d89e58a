package mcp

import (
	"fmt"
	"sync"
)

const (
	// resultPrefix begins the address of every kept result.
	resultPrefix = "talosmate://results/"
	jsonType     = "application/json"

	maxResults = 16       // How many results are kept.
	maxKept    = 32 << 20 // How many bytes they may have together.
)

// result is a document that is kept as a resource.
type result struct {
	uri, name string
	text      []byte
}

func (r result) mime() string {
	if len(r.text) > 0 && (r.text[0] == '{' || r.text[0] == '[') {
		return jsonType
	}

	return "text/plain"
}

// results keeps the last results, within bounds.
type results struct {
	mu      sync.Mutex
	all     []result
	count   int
	size    int
	added   func(result)
	removed func(uri string)
}

func newResults() *results { return &results{added: func(result) {}, removed: func(string) {}} }

// add keeps a result and returns its address.
func (r *results) add(name string, text []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.count++
	kept := result{uri: fmt.Sprintf("%s%d", resultPrefix, r.count), name: name, text: text}
	r.all = append(r.all, kept)
	r.size += len(text)

	for len(r.all) > maxResults || r.size > maxKept {
		r.removed(r.all[0].uri)
		r.size -= len(r.all[0].text)
		r.all = r.all[1:]
	}

	r.added(kept)

	return kept.uri
}

func (r *results) find(uri string) (result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	for _, kept := range r.all {
		if kept.uri == uri {
			return kept, true
		}
	}

	return result{}, false
}
