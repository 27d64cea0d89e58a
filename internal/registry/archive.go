package registry

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/talosmate/talosmate/internal/errs"
)

// Push uploads the one image of an archive (as `docker save` and the imager write it) under a reference with a tag. The
// name inside the archive does not matter.
func (c *Client) Push(ctx context.Context, archive, reference string) (Image, error) {
	ref, err := c.parse(reference)
	if err != nil {
		return Image{}, err
	}

	tag, ok := ref.(name.Tag)
	if !ok {
		return Image{}, errs.Usagef("cannot push to %s: a push needs a tag, the digest follows from the content", reference)
	}

	img, err := openArchive(archive)
	if err != nil {
		return Image{}, err
	}

	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("cannot read the image in %s: %w", archive, err)
	}

	media, err := img.MediaType()
	if err != nil {
		return Image{}, fmt.Errorf("cannot read the image in %s: %w", archive, err)
	}

	if err = remote.Write(tag, img, c.remote(ctx)...); err != nil {
		return Image{}, failure("push", reference, err)
	}

	return Image{
		Reference: tag.Name(), Digest: digest.String(), Pinned: tag.Context().Name() + "@" + digest.String(), MediaType: string(media),
	}, nil
}

// openArchive opens an archive that holds exactly one image.
func openArchive(archive string) (v1.Image, error) {
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read the image in %s: %w", archive, err)
	}

	return img, nil
}

// Retag writes the one image of an archive again under another reference. A created time that is not zero replaces the
// image's own, so that two builds of the same parts have the same bytes.
func Retag(archive string, out io.Writer, reference string, created time.Time) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return badReference(reference, err)
	}

	img, err := openArchive(archive)
	if err != nil {
		return err
	}

	if !created.IsZero() {
		if img, err = mutate.CreatedAt(img, v1.Time{Time: created.UTC()}); err != nil {
			return fmt.Errorf("cannot set the time of the image in %s: %w", archive, err)
		}
	}

	if err = tarball.Write(tag, img, out); err != nil {
		return fmt.Errorf("cannot write the image archive: %w", err)
	}

	return nil
}
