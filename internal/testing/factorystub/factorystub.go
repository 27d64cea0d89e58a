// Package factorystub replaces an Image Factory in tests. The factory's own library computes the IDs.
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

// Serve starts a factory and returns its URL. It refuses a schematic with an extension "refused", and ignores the
// content of one with an extension "dropped", as an older factory would. It knows a field "fromTheFuture".
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

		if strings.Contains(string(body), "fromTheFuture") {
			answer(w, map[string]string{"id": strings.Repeat("f", 64)})

			return
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
	mux.HandleFunc("GET /schematics/{id}", func(w http.ResponseWriter, r *http.Request) {
		text, known := map[string]string{
			"ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515": "customization:\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/qemu-guest-agent\n",
			"376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba": "customization: {}\n",
			strings.Repeat("f", 64): "fromTheFuture: 1\noverlay:\n    name: rpi\ncustomization:\n    extraKernelArgs: [a=b]\n",
			strings.Repeat("e", 64): "- not a schematic\n",
		}[r.PathValue("id")]
		if !known {
			http.NotFound(w, r)

			return
		}

		w.Header().Set("Content-Type", "application/yaml")

		if _, err := io.WriteString(w, text); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /versions", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, []string{"v1.12.9", "v1.13.10", "v1.13.9", "v1.14.0-rc.1", "nonsense"})
	})
	mux.HandleFunc("GET /version/{version}/extensions/official", func(w http.ResponseWriter, r *http.Request) {
		digest := "sha256:" + strings.Repeat("a", 64)

		switch r.PathValue("version") {
		case "v1.13.9":
		case "v1.14.1":
			answer(w, []map[string]string{
				{"name": "siderolabs/iscsi-tools", "ref": "ghcr.io/siderolabs/iscsi-tools:v0.2.0", "digest": digest},
				{"name": "siderolabs/multipath-tools", "ref": "ghcr.io/siderolabs/multipath-tools:v0.1.0", "digest": digest},
			})

			return
		default:
			http.NotFound(w, r)

			return
		}

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
