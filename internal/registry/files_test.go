package registry_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/registry"
)

// The layers of an image are read only up to a size, whatever they hold: the names of all their files are kept.
func TestLayersAreBounded(t *testing.T) {
	t.Parallel()

	img, err := random.Image(64<<10, 3)
	require.NoError(t, err)

	out, err := registry.ExtractBounded(img, 1<<20, "missing")
	require.NoError(t, err)
	require.Empty(t, out)

	_, err = registry.ExtractBounded(img, 100<<10, "missing")
	require.ErrorContains(t, err, "its layers are larger than is allowed")
}
