package kube

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/talosmate/talosmate/internal/errs"
)

// Definite reports whether repeating the request is useless: the API server has answered, or the certificate or the
// node's kubeconfig is not trusted. Every other error may be a short outage.
func Definite(err error) bool {
	var (
		untrusted *tls.CertificateVerificationError
		ours      *errs.Error
	)

	if errors.As(err, &ours) && ours.Exit == errs.Usage {
		return true // it was not sent
	}

	return errors.As(err, &untrusted) || errs.IsUntrusted(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}

// announcer calls the client's Begin before each request that may change something.
type announcer struct {
	next   http.RoundTripper
	client *Client
}

// RoundTrip implements http.RoundTripper.
func (a *announcer) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.client.Begin != nil && !isRead(r) {
		if err := a.client.Begin(); err != nil {
			return nil, err
		}
	}

	return a.next.RoundTrip(r)
}

// isRead reports whether a request is known to change nothing. Access reviews are POST requests that change nothing.
func isRead(r *http.Request) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method) ||
		strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/")
}

// lostError is a change that was sent to the API server and not answered.
type lostError struct{ error }

// Unwrap implements the errors.Is and errors.As chain.
func (e lostError) Unwrap() error { return e.error }

// AnswerLost reports that the change may have been carried out.
func (e lostError) AnswerLost() bool { return true }

// afterSending marks the error of a change that may have been carried out. An answer of the API server is definite,
// unless it says that the outcome is unknown. A request that could not be dialled was not sent.
func afterSending(err error) error {
	var (
		answer apierrors.APIStatus
		dial   *net.OpError
	)

	switch {
	case err == nil, Definite(err):
		return err
	case errors.As(err, &answer):
		if answer.Status().Code < http.StatusInternalServerError {
			return err
		}
	case errors.As(err, &dial) && dial.Op == "dial":
		return err
	}

	return lostError{err}
}

// answerCounter counts the requests that the API server did not answer. kubectl's drain library turns its errors into text,
// so they cannot be distinguished afterwards.
type answerCounter struct {
	next  http.RoundTripper
	count *atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (w *answerCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil && r.Context().Err() == nil || err == nil && resp.StatusCode >= http.StatusInternalServerError {
		w.count.Add(1)
	}

	return resp, err
}
