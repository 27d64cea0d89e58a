package imager

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/registry"
)

// finishInstallers renames the installers inside their archives; see renameInside.
func (b *Builder) finishInstallers(scratch string, build Build, o Options, p *prepared) error {
	archives, err := filepath.Glob(filepath.Join(scratch, "*.tar"))
	if err != nil {
		return err
	}

	var created time.Time
	if p.epoch != 0 {
		created = time.Unix(p.epoch, 0)
	}

	for _, a := range archives {
		if err = renameInside(a, installerName(build, o), created); err != nil {
			return err
		}
	}

	return nil
}

// installerName is the name of an installer inside its archive, under which it is loaded.
func installerName(b Build, o Options) string {
	if o.Push != "" {
		return o.Push
	}

	return "localhost/installer:" + b.TalosVersion
}

// renameInside gives an installer a name of its own inside the archive: the imager uses the base installer's name
// (ghcr.io/siderolabs/installer-base:1.14.0, without the v), or none. With a created time two builds of the same parts
// have the same bytes; the imager always uses the present time.
func renameInside(archive, reference string, created time.Time) error {
	if err := fsutil.WriteFile(archive, 0o644, func(w io.Writer) error { return registry.Retag(archive, w, reference, created) }); err != nil {
		return diskError(filepath.Dir(archive), err)
	}

	return nil
}

// deliver loads and pushes an installer.
func (b *Builder) deliver(ctx context.Context, o Options, p *prepared) error {
	if !o.Load && o.Push == "" {
		return nil
	}

	i := slices.IndexFunc(p.result.Files, func(f Product) bool { return strings.HasSuffix(f.Path, ".tar") })
	if i < 0 {
		return errs.New(errs.Failed, "the imager wrote no installer archive")
	}

	archive := p.result.Files[i].Path

	if o.Load {
		b.say("load", archive)

		if err := p.engine.Load(ctx, archive); err != nil {
			return err
		}

		p.result.Loaded = installerName(Build{TalosVersion: p.result.TalosVersion}, o)
	}

	if o.Push == "" {
		return nil
	}

	b.say("push", o.Push)

	image, err := b.Registry.Push(ctx, archive, o.Push)
	if err != nil {
		return err
	}

	p.result.Pushed = &image

	return nil
}
