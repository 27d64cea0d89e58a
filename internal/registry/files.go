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

	"github.com/talosmate/talosmate/internal/lists"
)

const (
	// maxFile bounds what is read of one file: catalogues and manifests are small.
	maxFile = 16 << 20
	// maxImage bounds what an image's layers are when they are unpacked; the names of all files are held in memory.
	maxImage = 2 << 30
)

// bounded is an image whose layers end with an error beyond a number of bytes together.
type bounded struct {
	v1.Image

	bytes int64
}

func (b bounded) Layers() ([]v1.Layer, error) {
	layers, err := b.Image.Layers()
	left := b.bytes

	return lists.Map(layers, func(l v1.Layer) v1.Layer { return boundedLayer{l, &left} }), err
}

type boundedLayer struct {
	v1.Layer

	left *int64 // Of all layers of the image, which are read one after another.
}

func (l boundedLayer) Uncompressed() (io.ReadCloser, error) {
	content, err := l.Layer.Uncompressed()
	if err != nil {
		return nil, err
	}

	return &boundedReader{content, l.left}, nil
}

type boundedReader struct {
	io.ReadCloser

	left *int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if *r.left -= int64(n); *r.left < 0 {
		return 0, errors.New("its layers are larger than is allowed")
	}

	return n, err
}

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

	out, err := extract(img, maxImage, names)
	if err != nil {
		return nil, failure("read image", reference, err)
	}

	return out, nil
}

func extract(img v1.Image, most int64, names []string) (map[string][]byte, error) {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}

	stream := mutate.Extract(bounded{img, most})
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
