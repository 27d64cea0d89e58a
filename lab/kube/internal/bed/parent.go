package bed

import (
	"context"
	"os"
	"time"
)

// orphanCheck is the interval at which a process checks whether its parent is alive.
const orphanCheck = 250 * time.Millisecond

// WhenOrphaned calls orphaned once the process that started this one has ended, and returns then or when the context
// ends.
func WhenOrphaned(ctx context.Context, orphaned func()) {
	parent := os.Getppid()
	t := time.NewTicker(orphanCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if os.Getppid() != parent {
				orphaned()
				return
			}
		}
	}
}
