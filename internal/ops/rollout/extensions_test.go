package rollout

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

func TestPlanComparesExtensions(t *testing.T) {
	t.Parallel()

	const (
		stock = "ghcr.io/siderolabs/installer:v1.13.9"
		had   = "iscsi-tools v0.1.6"
	)

	other := strings.Replace(fake.NewImage, fake.Schematic, strings.Repeat("b", 64), 1)

	for name, tt := range map[string]struct {
		from, image string
		factory     []string // What the factory says of the image's schematic; it does not answer when nil.

		kept, lost, added, unknown []string
		gate                       string
	}{
		"its own schematic":        {from: "v1.13.8", image: fake.NewImage, kept: []string{had}, gate: "TM133 pass"},
		"a stock image":            {from: "v1.13.8", image: stock, lost: []string{had}, gate: "TM133 refuse"},
		"the factory keeps silent": {from: "v1.13.8", image: other, unknown: []string{had}, gate: "TM133 refuse"},
		"more":                     {from: "v1.13.8", image: other, factory: []string{"siderolabs/zfs", "siderolabs/iscsi-tools"}, kept: []string{had}, added: []string{"siderolabs/zfs"}, gate: "TM133 refuse"},
		"another":                  {from: "v1.13.8", image: other, factory: []string{"siderolabs/zfs"}, lost: []string{had}, added: []string{"siderolabs/zfs"}, gate: "TM133 refuse"},
		"at the end of the way":    {from: "v1.11.6", image: stock, lost: []string{had}, gate: "TM133 refuse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleetOf(t, tt.from, 1)

				for _, m := range f.nodes {
					m.Running.API = release.UpgradeAPI(tt.from)
					m.Sys.Kubelet = "v1.34.0"
				}

				asked := 0
				f.Extensions = func(_ context.Context, image registry.Installer) ([]string, error) {
					asked++

					if image.Schematic != strings.Repeat("b", 64) || tt.factory == nil {
						return nil, errors.New("not found")
					}

					return tt.factory, nil
				}

				p, _ := f.plan(Request{Image: tt.image, Via: []string{"v1.12.9"}})
				if len(p.Nodes) != 4 || asked > 1 {
					t.Fatalf("%d nodes, asked %d times", len(p.Nodes), asked)
				}

				n := p.Nodes[3]
				for what, pair := range map[string][2][]string{
					"kept": {n.ExtensionsKept, tt.kept}, "lost": {n.ExtensionsLost, tt.lost},
					"added": {n.ExtensionsAdded, tt.added}, "unknown": {n.ExtensionsUnknown, tt.unknown},
				} {
					if pair[0] == nil || !slices.Equal(pair[0], pair[1]) {
						t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
					}
				}

				if !slices.ContainsFunc(n.Gates, func(v gate.Verdict) bool { return string(v.Gate)+" "+string(v.Verdict) == tt.gate }) {
					t.Errorf("%v, hops %v", n.Gates, n.Hops)
				}
			})
		})
	}
}
