package bed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/lab/kube/internal/kubelet"
)

// ReadNodes reads machines from JSON: a list, or an object with the list under "nodes". Unknown fields are errors.
func ReadNodes(r io.Reader) ([]kubelet.Spec, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	var wrapped struct {
		Nodes []kubelet.Spec `json:"nodes"`
	}
	target := any(&wrapped)
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		target = &wrapped.Nodes
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(target); err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("nodes: more than one JSON value")
	}
	seen := map[string]bool{}
	for _, s := range wrapped.Nodes {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("nodes: %w", err)
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("nodes: %s is listed twice", s.Name)
		}
		seen[s.Name] = true
	}
	return wrapped.Nodes, nil
}
