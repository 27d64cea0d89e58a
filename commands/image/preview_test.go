package image

import (
	"bytes"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

func TestPreview(t *testing.T) {
	t.Parallel()

	now := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

	made := func(ago time.Duration) *time.Time {
		at := now.Add(-ago)

		return &at
	}

	row := func(host string, failed string, kept []image.Kept, candidates ...image.Candidate) image.Result {
		r := image.Result{NodeRef: talos.NodeRef{Node: "10.5.0.2", Hostname: host}, InUseImages: 3, Kept: kept, Candidates: candidates, PodsError: failed}
		for _, c := range candidates {
			r.CandidateCount, r.CandidateBytes = r.CandidateCount+1, r.CandidateBytes+c.SizeBytes
		}

		return r
	}

	app := image.Candidate{Image: "registry.example/app:v1", Digest: "sha256:1", Names: []string{"registry.example/app:v1", "sha256:1"}, SizeBytes: 3 << 20, Created: made(50 * time.Hour)}
	tool := image.Candidate{Image: "registry.example/tool:v1", Digest: "sha256:2", Names: []string{"registry.example/tool:v1"}, SizeBytes: 5 << 30, Created: made(3 * time.Hour)}
	ageless := image.Candidate{Image: "registry.example/ageless:v1", Digest: "sha256:3", Names: []string{"registry.example/ageless:v1"}, SizeBytes: 1 << 10}
	keeps := []image.Kept{{Image: "p", Reason: "pinned"}, {Image: "a", Reason: "younger than 10m0s"}, {Image: "b", Reason: "younger than 10m0s"}}

	for name, c := range map[string]struct {
		rows          []image.Result
		wide, headers bool
	}{
		"preview.table":     {[]image.Result{row("cp-1", "", keeps, app, tool), row("worker-1", "", nil, ageless)}, false, true},
		"preview.wide":      {[]image.Result{row("cp-1", "", keeps, app)}, true, true},
		"preview.unasked":   {[]image.Result{row("cp-1", "no route to host", keeps, app), row("worker-1", "no route to host", nil), row("worker-2", "its API knows no node worker-2", nil)}, false, true},
		"preview.nothing":   {[]image.Result{row("worker-1", "", nil)}, false, true},
		"preview.noheaders": {[]image.Result{row("cp-1", "", keeps, app)}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var out bytes.Buffer
			text := &output.Text{Terminal: iostreams.NewTerminal(&out), Layout: output.Layout{Wide: c.wide, Headers: c.headers}}
			if err := preview(text, c.rows, now); err != nil {
				t.Fatal(err)
			}

			golden.Assert(t, name, out.Bytes())
		})
	}
}
