package conn

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
)

// silent takes requests and never answers them, or answers with an error.
type silent struct {
	machine.UnimplementedMachineServiceServer

	answer error
}

func (s *silent) EtcdDefragment(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdDefragmentResponse, error) {
	if s.answer != nil {
		return nil, s.answer
	}

	<-ctx.Done()

	return nil, status.FromContextError(ctx.Err()).Err()
}

func (s *silent) Version(ctx context.Context, _ *emptypb.Empty) (*machine.VersionResponse, error) {
	_, err := s.EtcdDefragment(ctx, nil)

	return nil, err
}

// TestLostAnswer: a change that was sent never ends as if it had not been sent, whatever the reason for the missing
// answer.
func TestLostAnswer(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		answer error
		change errs.Code // How a change ends.
		read   errs.Code // And a read.
	}{
		"no answer":               {nil, errs.Unknown, errs.Unreachable},
		"the node gave up":        {status.Error(codes.DeadlineExceeded, "context deadline exceeded"), errs.Unknown, errs.Unreachable},
		"the stream was reset":    {status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL"), errs.Unknown, errs.Unreachable},
		"the connection broke":    {status.Error(codes.Unavailable, "error reading from server: EOF"), errs.Unknown, errs.Unreachable},
		"the answer is too large": {status.Error(codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 4)"), errs.Unknown, errs.Failed},
		"etcd did not answer":     {status.Error(codes.Unavailable, "etcdserver: request timed out"), errs.Unknown, errs.Unreachable},
		"etcd has no leader":      {status.Error(codes.Unavailable, "etcdserver: no leader"), errs.Failed, errs.Unreachable},
		"the node cannot be dialled": {
			status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:50000: connect: no route to host"`),
			errs.Unreachable, errs.Unreachable,
		},
		"its etcd is down": {
			status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:2379: connect: connection refused"`),
			errs.Failed, errs.Unreachable,
		},
		"it refuses": {status.Error(codes.FailedPrecondition, "no"), errs.Failed, errs.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			n := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, &silent{answer: c.answer}) })

			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()

			node := machine.NewMachineServiceClient(n)

			_, err := node.EtcdDefragment(ctx, &emptypb.Empty{})
			err = n.Fail("defragment etcd", err)

			if code := errs.ExitCode(err); code != c.change {
				t.Errorf("a change ends with %d, want %d: %v", code, c.change, err)
			}

			if lost := KindOf(err) == errs.KindUnknownOutcome; lost != (c.change == errs.Unknown) || lost && !Transient(err) {
				t.Errorf("kind %q: %v", KindOf(err), err)
			}

			if Undelivered(err) != strings.Contains(name, "dialled") {
				t.Errorf("undelivered: %t", Undelivered(err))
			}

			ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()

			_, err = node.Version(ctx, &emptypb.Empty{})
			if err = n.Fail("read the version", err); errs.ExitCode(err) != c.read {
				t.Errorf("a read ends with %d, want %d: %v", errs.ExitCode(err), c.read, err)
			}
		})
	}
}
