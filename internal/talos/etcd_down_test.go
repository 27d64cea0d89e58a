package talos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
)

// quietEtcd is a control plane whose etcd accepts no connections or has no leader: calls to it last as long as the caller
// waits.
type quietEtcd struct {
	machine.UnimplementedMachineServiceServer

	state  string // Of the service.
	status *machine.EtcdMemberStatus
	asked  chan struct{}
}

func (q *quietEtcd) EtcdMemberList(ctx context.Context, _ *machine.EtcdMemberListRequest) (*machine.EtcdMemberListResponse, error) {
	<-ctx.Done()

	return nil, ctx.Err()
}

func (q *quietEtcd) EtcdStatus(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdStatusResponse, error) {
	if q.status != nil {
		return &machine.EtcdStatusResponse{Messages: []*machine.EtcdStatus{{MemberStatus: q.status}}}, nil
	}

	<-ctx.Done()

	return nil, ctx.Err()
}

func (q *quietEtcd) EtcdAlarmList(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdAlarmListResponse, error) {
	<-ctx.Done()

	return nil, ctx.Err()
}

func (q *quietEtcd) ServiceList(context.Context, *emptypb.Empty) (*machine.ServiceListResponse, error) {
	defer close(q.asked)

	return &machine.ServiceListResponse{Messages: []*machine.ServiceList{{Services: []*machine.ServiceInfo{{Id: "etcd", State: q.state}}}}}, nil
}

// A read of an etcd that does not run ends with that, and not with the deadline; one of an etcd that runs waits.
func TestEtcdThatDoesNotRun(t *testing.T) {
	t.Parallel()

	for name, read := range map[string]func(context.Context, *Node) error{
		"members": func(ctx context.Context, n *Node) error { _, err := n.EtcdMembers(ctx, true); return err },
		"status":  func(ctx context.Context, n *Node) error { _, err := n.EtcdStatus(ctx); return err },
		"alarms":  func(ctx context.Context, n *Node) error { _, err := n.EtcdAlarms(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			q := &quietEtcd{state: "Finished", asked: make(chan struct{})}
			err := read(t.Context(), fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, q) }))

			var typed *errs.Error
			if !errors.As(err, &typed) || typed.Exit != errs.Failed || typed.Kind != errs.KindPrecondition || typed.Hint != "talosmate service info etcd -n n1" {
				t.Errorf("%+v: %v", typed, err)
			}

			if !strings.HasSuffix(err.Error(), " on 10.0.0.1 (n1): its etcd does not run: it is finished") {
				t.Error(err)
			}
		})

		t.Run(name+" of one that runs", func(t *testing.T) {
			t.Parallel()

			ctx, cancel := context.WithCancel(t.Context())
			q := &quietEtcd{state: "Running", asked: make(chan struct{})}

			go func() {
				<-q.asked
				cancel()
			}()

			err := read(ctx, fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, q) }))
			if errs.ExitCode(err) != errs.Interrupted {
				t.Errorf("%d: %v", errs.ExitCode(err), err)
			}
		})
	}
}

// A member without a leader ends its reads, once it had the time to elect one; one that has a leader is waited for.
func TestEtcdWithoutALeader(t *testing.T) {
	t.Parallel()

	for name, read := range map[string]func(context.Context, *Node) error{
		"members": func(ctx context.Context, n *Node) error { _, err := n.EtcdMembers(ctx, true); return err },
		"alarms":  func(ctx context.Context, n *Node) error { _, err := n.EtcdAlarms(ctx); return err },
	} {
		for leader, want := range map[uint64]errs.Code{0: errs.Failed, 7: errs.Interrupted} {
			t.Run(fmt.Sprint(name, " with leader ", leader), func(t *testing.T) {
				t.Parallel()

				ctx, cancel := context.WithCancel(t.Context())
				q := &quietEtcd{state: "Running", status: &machine.EtcdMemberStatus{MemberId: 1, Leader: leader}, asked: make(chan struct{})}

				go func() {
					<-q.asked

					if leader != 0 {
						cancel()
					}
				}()

				err := read(ctx, fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, q) }))
				if errs.ExitCode(err) != want || errors.Is(err, errNoLeader) != (leader == 0) {
					t.Errorf("%d: %v", errs.ExitCode(err), err)
				}
			})
		}
	}
}
