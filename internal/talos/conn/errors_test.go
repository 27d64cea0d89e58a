package conn

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
