// Package factorystub stands in for an Image Factory: its own library computes the IDs.
package factorystub

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/siderolabs/image-factory/pkg/schematic"
)

// Serve starts a factory and returns its URL. It refuses a schematic that names an extension "refused", and
// drops what is in one that names "dropped", as a factory that is too old would.
func Serve(t *testing.T) string {
	t.Helper()

	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}

	mux.HandleFunc("POST /schematics", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}

		s, err := schematic.Unmarshal(body)
		if err != nil || strings.Contains(string(body), "refused") {
			http.Error(w, "extension is not known", http.StatusBadRequest)

			return
		}

		if strings.Contains(string(body), "dropped") {
			s = &schematic.Schematic{}
		}

		id, err := s.ID()
		if err != nil {
			t.Error(err)
		}

		answer(w, map[string]string{"id": id})
	})
	mux.HandleFunc("GET /versions", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, []string{"v1.12.9", "v1.13.10", "v1.13.9", "v1.14.0-rc.1", "nonsense"})
	})
	mux.HandleFunc("GET /version/{version}/extensions/official", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("version") != "v1.13.9" {
			http.NotFound(w, r)

			return
		}

		digest := "sha256:" + strings.Repeat("a", 64)
		answer(w, []map[string]string{
			{
				"name": "siderolabs/zfs", "ref": "ghcr.io/siderolabs/zfs:2.4.1-v1.13.9", "digest": digest, "author": "Aenix, Enix",
				"description": "[contrib] This system extension provides\nZFS.\n",
			},
			{"name": "siderolabs/gvisor", "ref": "ghcr.io/siderolabs/gvisor:20260810.0", "digest": digest, "author": "Sidero Labs", "description": "gVisor"},
		})
	})

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	return server.URL
}
