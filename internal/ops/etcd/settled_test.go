package etcd_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/ops/etcd"
)

// TestSettled: an election is waited for, an unhealthy or missing member is not.
func TestSettled(t *testing.T) {
	t.Parallel()

	gone := errors.New("gone")

	for name, tt := range map[string]struct {
		arrange func(nodes []*node, look int)
		looks   int
		healthy int
	}{
		"calm":     {func([]*node, int) {}, 1, 3},
		"one away": {func(nodes []*node, _ int) { nodes[2].err = gone }, 1, 2},
		"no quorum": {func(nodes []*node, _ int) {
			nodes[1].err, nodes[2].err = gone, gone
			nodes[0].status.LeaderID = id(0)
		}, 1, 0},
		"an election": {func(nodes []*node, look int) {
			for _, n := range nodes {
				n.status.LeaderID = id(0)
				if look == 3 {
					n.status.LeaderID = id(2)
				}
			}
		}, 3, 3},
		"one finds no leader for long": {func(nodes []*node, _ int) { nodes[2].status.LeaderID = id(0) }, 9, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sources, nodes := three()
				looks := 0

				v, err := etcd.Settled(t.Context(), func(ctx context.Context) (etcd.View, error) {
					looks++
					tt.arrange(nodes, looks)

					return etcd.Gather(ctx, sources, time.Second), nil
				})

				healthy := 0

				for _, m := range v.Members {
					if m.Healthy {
						healthy++
					}
				}

				if err != nil || looks != tt.looks || healthy != tt.healthy {
					t.Errorf("%d looks, %d healthy: %v", looks, healthy, err)
				}
			})
		})
	}
}
