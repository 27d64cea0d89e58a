package kube

import (
	"errors"
	"net/url"
)

// causeOf shows an error of the API's client without the request's method and address, which net/http puts before the
// cause. It stays the error that it was for errors.Is and errors.As.
func causeOf(err error) error {
	var request *url.Error
	if !errors.As(err, &request) || err.Error() != request.Error() {
		return err
	}

	return reasoned{err, request.Err.Error()}
}

type reasoned struct {
	error

	text string
}

// Error is the cause alone.
func (r reasoned) Error() string { return r.text }

// Unwrap gives the whole error.
func (r reasoned) Unwrap() error { return r.error }
