package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// Has reports whether the engine has an image already.
func (e *Engine) Has(ctx context.Context, reference string) bool {
	_, err := e.output(ctx, "image", "inspect", "--format", "{{.Id}}", reference)

	return err == nil
}

// Pull pulls an image with the user's credentials. progress is called with each line that the engine writes.
func (e *Engine) Pull(ctx context.Context, reference string, progress func(string)) error {
	said, err := e.stream(ctx, nil, progress, nil, "pull", reference)
	if err == nil {
		return nil
	}

	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	text := said.text()
	out := errs.New(errs.Failed, "cannot pull %s with %s: %s", reference, e.Name, lastLine(text, err))

	switch {
	case contains(text, "no space left on device", "disk quota exceeded"):
		return out.WithHint("the disk that holds %s's images is full: `%s system df` shows what takes the space", e.Name, e.Name)
	case contains(text, "unauthorized", "denied", "authentication required"):
		out.Exit = errs.Unreachable

		return out.WithKind(errs.KindUnauthenticated).WithHint("log in with `%s login`", e.Name)
	case contains(text, "manifest unknown", "not found", "name unknown"):
		return out.WithKind(errs.KindNotFound).WithHint("check the repository and the tag: is this version published?")
	case contains(text, "connection refused", "no such host", "i/o timeout", "x509", "dial tcp", "EOF"):
		out.Exit, out.Retryable = errs.Unreachable, true

		return out.WithKind(errs.KindUnreachable).WithHint("check that %s can reach the registry", e.Name)
	default:
		return out
	}
}

// Load reads an image archive into the engine's store.
func (e *Engine) Load(ctx context.Context, archive string) error {
	said, err := e.stream(ctx, nil, nil, nil, "load", "-i", archive)

	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("cannot load the image into %s: %w", e.Name, errors.New(lastLine(said.text(), err)))
	}
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}

	return false
}
