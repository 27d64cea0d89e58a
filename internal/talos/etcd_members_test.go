package talos

import (
	"context"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// learning is a control plane whose requests for the member list reach a learner at first.
type learning struct {
	machine.UnimplementedMachineServiceServer

	refusals int
	asked    int
}

func (l *learning) EtcdMemberList(context.Context, *machine.EtcdMemberListRequest) (*machine.EtcdMemberListResponse, error) {
	if l.asked++; l.asked <= l.refusals {
		return nil, status.Error(codes.Unknown, "etcdserver: rpc not supported for learner")
	}

	return &machine.EtcdMemberListResponse{Messages: []*machine.EtcdMembers{{Members: []*machine.EtcdMember{{Id: 1}}}}}, nil
}

func TestEtcdMembersPastALearner(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name            string
		refusals, asked int
		local, listed   bool
	}{
		{"any member: another one answers", 2, 3, false, true},
		{"any member: only learners", 99, memberTries, false, false},
		{"its own member", 1, 1, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			l := &learning{refusals: c.refusals}
			list, err := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, l) }).EtcdMembers(t.Context(), c.local)

			if (err == nil) != c.listed || len(list) == 1 != c.listed || l.asked != c.asked || conn.EtcdLearner(err) == c.listed {
				t.Errorf("%d members after %d requests: %v", len(list), l.asked, err)
			}
		})
	}
}
