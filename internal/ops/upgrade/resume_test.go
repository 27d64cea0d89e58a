package upgrade

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// silentNode answers nothing before its deadline.
type silentNode struct{ probe.API }

func (silentNode) MachineStatus(ctx context.Context) (talos.MachineStatus, error) {
	if err := poll.Pause(ctx, 30*time.Second); err != nil {
		return talos.MachineStatus{}, err
	}

	return talos.MachineStatus{}, fake.ErrDown
}

// firstEvent notes when the first event came, of several goroutines.
type firstEvent struct {
	progress.Discard

	once *sync.Once
	at   *time.Time
}

func (s firstEvent) Emit(progress.Event) { s.once.Do(func() { *s.at = time.Now() }) }

// TestAwaitUnderwaySpeaks: nobody waits longer than three seconds without being told for what.
func TestAwaitUnderwaySpeaks(t *testing.T) {
	t.Parallel()

	for name, arrange := range map[string]func(*bed){
		"down":      func(b *bed) { b.node.DownUntil = time.Now().Add(time.Hour) },
		"silent":    func(b *bed) { b.world.Read = silentNode{b.node} },
		"not ready": func(b *bed) { b.node.Stage = talos.MachineStatus{Stage: "booting"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed("v1.13.8")
				b.kube.Gone = fake.ErrDown
				arrange(b)

				began, first := time.Now(), time.Time{}
				AwaitUnderway(t.Context(), b.world, time.Minute, firstEvent{once: &sync.Once{}, at: &first})

				if first.IsZero() || first.Sub(began) > 3*time.Second {
					t.Errorf("the first event came at %s, want at most 3s after %s", first, began)
				}
			})
		})
	}
}
