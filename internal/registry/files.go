package registry

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxFile bounds what is read of one file: catalogues and manifests are small.
const maxFile = 16 << 20

// Files reads small files out of an image's root file system (linux/amd64 of an index). Names are paths without a
// leading slash; files that the image does not have are missing from the result.
func (c *Client) Files(ctx context.Context, reference string, names ...string) (map[string][]byte, error) {
	ref, err := c.parse(reference)
	if err != nil {
		return nil, err
	}

	img, err := remote.Image(ref, append(c.remote(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))...)
	if err != nil {
		return nil, failure("read image", reference, err)
	}

	out, err := extract(img, names)
	if err != nil {
		return nil, failure("read image", reference, err)
	}

	return out, nil
}

func extract(img v1.Image, names []string) (map[string][]byte, error) {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}

	stream := mutate.Extract(img)
	defer stream.Close() //nolint:errcheck // the rest of the image is not needed

	out := map[string][]byte{}
	archive := tar.NewReader(stream)

	for len(out) < len(wanted) {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return nil, err
		}

		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		if !wanted[name] || h.Typeflag != tar.TypeReg {
			continue
		}

		if h.Size > maxFile {
			return nil, fmt.Errorf("%s has %d bytes, more than is allowed", name, h.Size)
		}

		if out[name], err = io.ReadAll(io.LimitReader(archive, maxFile)); err != nil {
			return nil, err
		}
	}

	return out, nil
}
