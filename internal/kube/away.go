package kube

import (
	"crypto/tls"
	"errors"
	"net/http"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/talosmate/talosmate/internal/errs"
)

// Definite says whether the API server has answered and would answer the same again: repeating the request
// helps nobody. Neither does it for a certificate or a node's kubeconfig that is not to be trusted. Everything else may be a server that is away for a
// moment.
func Definite(err error) bool {
	var untrusted *tls.CertificateVerificationError

	return errors.As(err, &untrusted) || errs.IsUntrusted(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}

// witness counts the requests that the API server leaves without an answer. kubectl's drain library turns its
// errors into text, so that they cannot be told apart afterwards.
type witness struct {
	next  http.RoundTripper
	count *atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil && r.Context().Err() == nil || err == nil && resp.StatusCode >= http.StatusInternalServerError {
		w.count.Add(1)
	}

	return resp, err
}
