package talos

import (
	"context"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
)

// fading is a node that takes a change, or not, and then cannot be asked any more.
type fading struct {
	machine.UnimplementedMachineServiceServer

	takes error
}

func (f *fading) EtcdAlarmDisarm(context.Context, *emptypb.Empty) (*machine.EtcdAlarmDisarmResponse, error) {
	return &machine.EtcdAlarmDisarmResponse{}, f.takes
}

func (f *fading) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	return nil, status.Error(codes.Unavailable, "connection reset by peer")
}

// A node that was changed is never one that was not reached.
func TestAfterAChange(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		takes error
		want  errs.Code
	}{
		"taken":            {nil, errs.Unknown},
		"its answer lost":  {status.Error(codes.DeadlineExceeded, "late"), errs.Unknown},
		"refused by it":    {status.Error(codes.FailedPrecondition, "not now"), errs.Unreachable},
		"not permitted it": {status.Error(codes.PermissionDenied, "no"), errs.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			n := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, &fading{takes: c.takes}) })
			_, before := n.Version(t.Context())
			before = n.AfterChange(before)

			if err := n.EtcdAlarmDisarm(t.Context()); (err == nil) != (c.takes == nil) {
				t.Fatal(err)
			}

			_, after := n.Version(t.Context())
			after = n.AfterChange(after)

			if errs.ExitCode(before) != errs.Unreachable || errs.ExitCode(after) != c.want || n.AfterChange(nil) != nil {
				t.Errorf("before it %d (%v), after it %d (%v), want %d", errs.ExitCode(before), before, errs.ExitCode(after), after, c.want)
			}
		})
	}
}
