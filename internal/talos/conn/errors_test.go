package conn

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func TestUnwrapped(t *testing.T) {
	t.Parallel()

	for message, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:50000: connect: no route to host"`: "dial tcp 10.0.0.1:50000: connect: no route to host",
		`connection error: desc = "transport: authentication handshake failed: tls: \"x\""`:                             `authentication handshake failed: tls: "x"`,
		`connection error: desc = "error reading server preface: EOF"`:                                                  "error reading server preface: EOF",
		`context deadline exceeded while waiting for connections to become ready; last error: connection error: desc = "transport: Error while dialing: EOF" (3 addresses)`://
		`context deadline exceeded while waiting for connections to become ready; last error: EOF (3 addresses)`,
		`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix /run/x.sock"`: "dial unix /run/x.sock",
		`the log says: connection error: desc = nothing`:                                                                        `the log says: connection error: desc = nothing`,
		"etcdserver: no leader": "etcdserver: no leader",
	} {
		err := translate(status.Error(codes.Unavailable, message), circumstances{})
		if err.Error() != want {
			t.Errorf("%s: got %s, want %s", message, err, want)
		}

		if got := status.Convert(err).Message(); got != message {
			t.Errorf("the status of %s has become %s", message, got)
		}
	}
}

// TestHandshake: that a connection was not made has a reason, and a node that hangs is not one of another cluster.
func TestHandshake(t *testing.T) {
	t.Parallel()

	for cause, c := range map[string]struct {
		kind errs.Kind
		hint string
	}{
		"authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority": {errs.KindUnauthenticated, "try --insecure"},
		"authentication handshake failed: remote error: tls: bad certificate":                                               {errs.KindUnauthenticated, "try --insecure"},
		"authentication handshake failed: context deadline exceeded":                                                        {errs.KindUnreachable, "the node does not answer"},
		"authentication handshake failed: read tcp 10.0.0.1:5->10.0.0.2:50000: i/o timeout":                                 {errs.KindUnreachable, "the node does not answer"},
		"authentication handshake failed: EOF":                                                                              {errs.KindUnreachable, "closed at once"},
		"authentication handshake failed: read tcp 10.0.0.1:5->10.0.0.2:50000: read: connection reset by peer":              {errs.KindUnreachable, "closed at once"},
	} {
		err := translate(status.Error(codes.Unavailable, `connection error: desc = "transport: `+cause+`"`), circumstances{forwarded: true})
		err = emptyPool(t).over(target.Target{Address: "10.0.0.1"}, nil, nil).Fail("read the version", err)

		var typed *errs.Error
		if !errors.As(err, &typed) || typed.Kind != c.kind || !strings.Contains(typed.Hint, c.hint) || typed.Retryable != (c.kind == errs.KindUnreachable) {
			t.Errorf("%s: %+v", cause, typed)
		}
	}
}
