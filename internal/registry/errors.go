package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/talosmate/talosmate/internal/errs"
)

// The causes that callers distinguish with errors.Is.
var (
	// ErrNotFound means that the registry answered and does not have the image.
	ErrNotFound = errors.New("the registry does not have it")
	// ErrUnauthorised means that the registry answered and requires other credentials.
	ErrUnauthorised = errors.New("the registry does not let us read it")
	// ErrUnreachable means that the registry did not answer, or answered with a server error.
	ErrUnreachable = errors.New("the registry cannot be reached")

	errCleartext = errors.New("refusing to use HTTP without TLS")
)

// failure makes the error `cannot VERB REFERENCE: cause` with the kind of the cause, the exit code and a hint.
func failure(verb, reference string, err error) error {
	var done *errs.Error
	if errors.As(err, &done) {
		return err
	}

	out := &errs.Error{Exit: errs.Failed, Kind: errs.KindFailed}
	class := classify(err, out)

	if class == nil {
		out.Err = fmt.Errorf("cannot %s %s: %w", verb, reference, err)
	} else {
		out.Err = fmt.Errorf("cannot %s %s: %w: %w", verb, reference, class, err)
	}

	return out
}

func classify(err error, out *errs.Error) error {
	var (
		answer  *transport.Error
		trust   *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
	)

	switch {
	case errors.Is(err, context.Canceled):
		out.Exit, out.Kind = errs.Interrupted, errs.KindInterrupted

		return nil
	case errors.As(err, &unknown), errors.As(err, &trust):
		out.Exit, out.Kind = errs.Unreachable, errs.KindUnauthenticated
		out.Hint = "the registry's certificate is not trusted here: name its authority with --registry-ca FILE"

		return ErrUnreachable
	case errors.Is(err, errCleartext):
		out.Exit, out.Kind = errs.Unreachable, errs.KindUnreachable
		out.Hint = "if the registry really has no TLS, name its host with --plain-http HOST"

		return ErrUnreachable
	case errors.As(err, &answer):
		return classifyAnswer(answer, out)
	default:
		out.Exit, out.Kind, out.Retryable = errs.Unreachable, errs.KindUnreachable, true
		out.Hint = "check the registry's name, and that this machine can reach it"

		return ErrUnreachable
	}
}

func classifyAnswer(answer *transport.Error, out *errs.Error) error {
	says := func(codes ...transport.ErrorCode) bool {
		for _, d := range answer.Errors {
			for _, c := range codes {
				if d.Code == c {
					return true
				}
			}
		}

		return false
	}

	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden,
		says(transport.UnauthorizedErrorCode, transport.DeniedErrorCode):
		out.Exit, out.Kind = errs.Unreachable, errs.KindUnauthenticated
		out.Hint = "log in with `docker login` or `podman login`; some registries also answer like this for images that do not exist"

		return ErrUnauthorised
	case status == http.StatusNotFound,
		says(transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode, transport.BlobUnknownErrorCode):
		out.Kind = errs.KindNotFound
		out.Hint = "check the repository and the tag: is this version published?"

		return ErrNotFound
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests:
		out.Exit, out.Kind, out.Retryable = errs.Unreachable, errs.KindUnreachable, true
		out.Hint = "the registry has a server error; try again later"

		return ErrUnreachable
	default:
		return nil
	}
}
