package kube

import (
	"errors"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCauseOf checks that an error of the connection is shown by its cause and stays what it is.
func TestCauseOf(t *testing.T) {
	t.Parallel()

	_, err := http.Get("http://127.0.0.1:1/api/v1/nodes") //nolint:noctx,bodyclose // nothing listens there
	require.ErrorContains(t, err, `Get "http://127.0.0.1:1/api/v1/nodes": `)

	got := causeOf(err)
	require.Equal(t, "dial tcp 127.0.0.1:1: connect: connection refused", got.Error())
	require.ErrorIs(t, got, syscall.ECONNREFUSED)

	var request *url.Error
	require.ErrorAs(t, got, &request)

	other := errors.New("forbidden")
	require.Same(t, other, causeOf(other))
}
