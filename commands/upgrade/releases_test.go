package upgrade

import (
	"context"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// TestReleases: the factory that is asked for releases has a URL.
func TestReleases(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if _, err := releases(ctx); errs.ExitCode(err) != errs.Interrupted {
		t.Error(err)
	}
}
