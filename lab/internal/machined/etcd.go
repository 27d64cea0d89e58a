package machined

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// leaveRetry is the interval at which machined retries a removal that etcd refuses temporarily.
const (
	leaveRetryEvery = 10 * time.Second
	leaveRetryFor   = 5 * time.Minute
)

// memberWait is how long machined waits until it has its own member's ID, memberLook the lab's interval of checks.
const (
	memberWait = 3 * time.Minute
	memberLook = 50 * time.Millisecond
)

// localMemberID waits until machined has the ID of the node's own member, which it has while etcd runs and is healthy.
func (s *Service) localMemberID(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, memberWait)
	defer cancel()

	look := time.NewTicker(memberLook)
	defer look.Stop()

	for {
		if id, ok := s.node.EtcdMemberID(); ok {
			return id, nil
		}

		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("failed to get local etcd member ID: %w", ctx.Err())
		}
	}
}

// local calls the node's own member. A member that is down does not answer before the caller's deadline, or at all
// without one: etcd's client waits for the connection (grpc.WaitForReady), and the dial timeout that machined gives it
// bounds no call.
func (s *Service) local(ctx context.Context, what string, act func(*clientv3.Client) error) error {
	if err := s.controlPlaneOnly(what); err != nil {
		return err
	}

	client, err := s.node.LocalEtcd(ctx)
	if err != nil {
		return fmt.Errorf("failed to create etcd client: %w", err)
	}
	defer client.Close() //nolint:errcheck

	return act(client)
}

// any calls any member that answers.
func (s *Service) any(ctx context.Context, what string, act func(context.Context, *clientv3.Client) error) error {
	if err := s.controlPlaneOnly(what); err != nil {
		return err
	}

	client, err := s.node.AnyEtcd(ctx)
	if err != nil {
		return fmt.Errorf("failed to create etcd client: %w", err)
	}
	defer client.Close() //nolint:errcheck

	return act(clientv3.WithRequireLeader(ctx), client)
}

// EtcdMemberList implements machine.MachineService.
func (s *Service) EtcdMemberList(ctx context.Context, req *machine.EtcdMemberListRequest) (*machine.EtcdMemberListResponse, error) {
	var members []*etcdserverpb.Member

	list := func(ctx context.Context, client *clientv3.Client) error {
		resp, err := client.MemberList(ctx)
		if err != nil {
			return err
		}

		members = resp.Members

		return nil
	}

	var err error

	if req.GetQueryLocal() {
		err = s.local(ctx, "member list", func(c *clientv3.Client) error { return list(clientv3.WithRequireLeader(ctx), c) })
	} else {
		err = s.any(ctx, "member list", list)
	}

	if err != nil {
		return nil, err
	}

	out := &machine.EtcdMembers{}

	if s.node.MemberListSkew() && len(members) > 0 {
		members = members[:len(members)-1]
	}

	for _, m := range members {
		out.LegacyMembers = append(out.LegacyMembers, m.Name)
		out.Members = append(out.Members, &machine.EtcdMember{
			Id: m.ID, Hostname: m.Name, PeerUrls: m.PeerURLs, ClientUrls: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}

	return &machine.EtcdMemberListResponse{Messages: []*machine.EtcdMembers{out}}, nil
}

// EtcdStatus implements machine.MachineService.
func (s *Service) EtcdStatus(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdStatusResponse, error) {
	var st *clientv3.StatusResponse

	err := s.local(ctx, "etcd status", func(c *clientv3.Client) error {
		var err error

		if st, err = c.Status(ctx, c.Endpoints()[0]); err != nil {
			return fmt.Errorf("failed to query etcd status: %w", err)
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	storage := st.StorageVersion
	if storage == "" {
		if parts := strings.SplitN(st.Version, ".", 3); len(parts) == 3 {
			storage = parts[0] + "." + parts[1] + ".0"
		}
	}

	return &machine.EtcdStatusResponse{Messages: []*machine.EtcdStatus{{MemberStatus: &machine.EtcdMemberStatus{
		MemberId: st.Header.MemberId, ProtocolVersion: st.Version, StorageVersion: storage, DbSize: st.DbSize, DbSizeInUse: st.DbSizeInUse,
		Leader: st.Leader, RaftIndex: st.RaftIndex, RaftTerm: st.RaftTerm, RaftAppliedIndex: st.RaftAppliedIndex,
		Errors: st.Errors, IsLearner: st.IsLearner,
	}}}}, nil
}

func alarms(in []*etcdserverpb.AlarmMember) []*machine.EtcdMemberAlarm {
	var out []*machine.EtcdMemberAlarm

	for _, a := range in {
		typ := machine.EtcdMemberAlarm_NONE

		switch a.Alarm {
		case etcdserverpb.AlarmType_NOSPACE:
			typ = machine.EtcdMemberAlarm_NOSPACE
		case etcdserverpb.AlarmType_CORRUPT:
			typ = machine.EtcdMemberAlarm_CORRUPT
		case etcdserverpb.AlarmType_NONE:
		}

		out = append(out, &machine.EtcdMemberAlarm{MemberId: a.MemberID, Alarm: typ})
	}

	return out
}

// EtcdAlarmList implements machine.MachineService.
func (s *Service) EtcdAlarmList(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdAlarmListResponse, error) {
	out := &machine.EtcdAlarm{}

	err := s.local(ctx, "etcd alarm list", func(c *clientv3.Client) error {
		resp, err := c.AlarmList(ctx)
		if err != nil {
			return fmt.Errorf("failed to list etcd alarms: %w", err)
		}

		out.MemberAlarms = alarms(resp.Alarms)

		return nil
	})
	if err != nil {
		return nil, err
	}

	return &machine.EtcdAlarmListResponse{Messages: []*machine.EtcdAlarm{out}}, nil
}

// EtcdAlarmDisarm implements machine.MachineService.
func (s *Service) EtcdAlarmDisarm(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdAlarmDisarmResponse, error) {
	out := &machine.EtcdAlarmDisarm{}

	err := s.local(ctx, "etcd alarm disarm", func(c *clientv3.Client) error {
		resp, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		if err != nil {
			return fmt.Errorf("failed to disarm etcd alarm: %w", err)
		}

		out.MemberAlarms = alarms(resp.Alarms)

		return nil
	})
	if err != nil {
		return nil, err
	}

	return &machine.EtcdAlarmDisarmResponse{Messages: []*machine.EtcdAlarmDisarm{out}}, nil
}

// EtcdDefragment implements machine.MachineService.
func (s *Service) EtcdDefragment(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdDefragmentResponse, error) {
	err := s.local(ctx, "etcd defragment", func(c *clientv3.Client) error {
		if _, err := c.Defragment(ctx, c.Endpoints()[0]); err != nil {
			return fmt.Errorf("failed to defragment etcd: %w", err)
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	if _, dies := s.node.Faults.Take(faults.DefragKills); dies {
		if err := s.node.SetEtcdDown(true); err != nil {
			return nil, err
		}
	}

	return &machine.EtcdDefragmentResponse{Messages: []*machine.EtcdDefragment{{}}}, nil
}

// EtcdSnapshot implements machine.MachineService.
func (s *Service) EtcdSnapshot(_ *machine.EtcdSnapshotRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	ctx := srv.Context()

	return s.local(ctx, "etcd snapshot", func(c *clientv3.Client) error {
		rd, err := c.Snapshot(ctx)
		if err != nil {
			return fmt.Errorf("failed reading etcd snapshot: %w", err)
		}
		defer rd.Close() //nolint:errcheck

		return sendBytes(rd, srv.Send)
	})
}

// EtcdRemoveMemberByID implements machine.MachineService.
func (s *Service) EtcdRemoveMemberByID(ctx context.Context, req *machine.EtcdRemoveMemberByIDRequest) (*machine.EtcdRemoveMemberByIDResponse, error) {
	err := s.any(ctx, "etcd remove member", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.MemberRemove(ctx, req.MemberId)
		if err == nil {
			return nil
		}

		err = fmt.Errorf("failed to remove member %d: %w", req.MemberId, err)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return status.Error(codes.NotFound, err.Error())
		}

		return fmt.Errorf("failed to remove member: %w", err)
	})
	if err != nil {
		return nil, err
	}

	return &machine.EtcdRemoveMemberByIDResponse{Messages: []*machine.EtcdRemoveMemberByID{{}}}, nil
}

// EtcdLeaveCluster implements machine.MachineService.
func (s *Service) EtcdLeaveCluster(ctx context.Context, _ *machine.EtcdLeaveClusterRequest) (*machine.EtcdLeaveClusterResponse, error) {
	if err := s.controlPlaneOnly("etcd leave"); err != nil {
		return nil, err
	}

	if err := s.leave(ctx); err != nil {
		return nil, fmt.Errorf("failed to leave cluster: %w", err)
	}

	return &machine.EtcdLeaveClusterResponse{Messages: []*machine.EtcdLeaveCluster{{}}}, nil
}

// leave removes the node's own member, with retries, and then its data.
func (s *Service) leave(ctx context.Context) error {
	self, err := s.localMemberID(ctx)
	if err != nil {
		return err
	}

	deadline := time.Now().Add(leaveRetryFor)

	for {
		err := s.any(ctx, "etcd leave", func(ctx context.Context, c *clientv3.Client) error {
			if _, err := c.MemberRemove(ctx, self); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
				return fmt.Errorf("failed to remove member %d: %w", self, err)
			}

			return nil
		})
		if err == nil {
			return s.node.ForgetEtcd()
		}

		if !errors.Is(err, rpctypes.ErrUnhealthy) && !errors.Is(err, rpctypes.ErrStopped) {
			return err
		}

		if time.Now().After(deadline) {
			return err
		}

		select {
		case <-time.After(leaveRetryEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// EtcdForfeitLeadership implements machine.MachineService.
func (s *Service) EtcdForfeitLeadership(ctx context.Context, _ *machine.EtcdForfeitLeadershipRequest) (*machine.EtcdForfeitLeadershipResponse, error) {
	if err := s.controlPlaneOnly("etcd forfeit leadership"); err != nil {
		return nil, err
	}

	self, err := s.localMemberID(ctx)
	if err != nil {
		return nil, err
	}

	var next string

	err = s.any(ctx, "etcd forfeit leadership", func(ctx context.Context, c *clientv3.Client) error {
		var err error

		next, err = s.forfeit(ctx, c, self)
		if err != nil {
			return fmt.Errorf("failed to forfeit leadership: %w", err)
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	return &machine.EtcdForfeitLeadershipResponse{Messages: []*machine.EtcdForfeitLeadership{{Member: next}}}, nil
}

func (s *Service) forfeit(ctx context.Context, c *clientv3.Client, self uint64) (string, error) {
	resp, err := c.MemberList(ctx)
	if err != nil {
		return "", fmt.Errorf("failed to list etcd members: %w", err)
	}

	if len(resp.Members) == 1 {
		return "", errors.New("cannot forfeit leadership, only one member")
	}

	leader, _, err := s.node.Etcd.Leader()
	if err != nil {
		return "", err
	}

	if leader != self {
		return "", nil
	}

	own, err := s.node.LocalEtcd(ctx)
	if err != nil {
		return "", err
	}
	defer own.Close() //nolint:errcheck

	for _, m := range resp.Members {
		if m.ID == self {
			continue
		}

		if _, err := own.MoveLeader(ctx, m.ID); err != nil {
			if errors.Is(err, rpctypes.ErrNotLeader) {
				return "", nil
			}

			return "", err
		}

		return m.Name, nil
	}

	return "", nil
}

// EtcdDowngradeValidate implements machine.MachineService.
func (s *Service) EtcdDowngradeValidate(ctx context.Context, req *machine.EtcdDowngradeValidateRequest) (*machine.EtcdDowngradeValidateResponse, error) {
	version, err := s.downgrade(ctx, "etcd downgrade validate", clientv3.DowngradeValidate, req.Version)
	if err != nil {
		return nil, err
	}

	return &machine.EtcdDowngradeValidateResponse{Messages: []*machine.EtcdDowngradeValidate{
		{ClusterDowngrade: &machine.EtcdClusterDowngrade{ClusterVersion: version}},
	}}, nil
}

// EtcdDowngradeEnable implements machine.MachineService.
func (s *Service) EtcdDowngradeEnable(ctx context.Context, req *machine.EtcdDowngradeEnableRequest) (*machine.EtcdDowngradeEnableResponse, error) {
	version, err := s.downgrade(ctx, "etcd downgrade enable", clientv3.DowngradeEnable, req.Version)
	if err != nil {
		return nil, err
	}

	return &machine.EtcdDowngradeEnableResponse{Messages: []*machine.EtcdDowngradeEnable{
		{ClusterDowngrade: &machine.EtcdClusterDowngrade{ClusterVersion: version}},
	}}, nil
}

// EtcdDowngradeCancel implements machine.MachineService.
func (s *Service) EtcdDowngradeCancel(ctx context.Context, _ *emptypb.Empty) (*machine.EtcdDowngradeCancelResponse, error) {
	version, err := s.downgrade(ctx, "etcd downgrade cancel", clientv3.DowngradeCancel, "")
	if err != nil {
		return nil, err
	}

	return &machine.EtcdDowngradeCancelResponse{Messages: []*machine.EtcdDowngradeCancel{
		{ClusterDowngrade: &machine.EtcdClusterDowngrade{ClusterVersion: version}},
	}}, nil
}

func (s *Service) downgrade(ctx context.Context, what string, action clientv3.DowngradeAction, version string) (string, error) {
	if err := s.controlPlaneOnly(what); err != nil {
		return "", err
	}

	if action != clientv3.DowngradeCancel {
		if err := validDowngrade(version); err != nil {
			return "", err
		}
	}

	var out string

	err := s.local(ctx, what, func(c *clientv3.Client) error {
		resp, err := c.Downgrade(ctx, action, version)
		if err != nil {
			return fmt.Errorf("failed to query etcd status: %w", err)
		}

		out = resp.Version

		return nil
	})

	return out, err
}

func validDowngrade(version string) error {
	if version == "" {
		return status.Error(codes.InvalidArgument, "version is required for etcd downgrade")
	}

	parts := strings.Split(version, ".")
	if len(parts) != 2 {
		return status.Error(codes.InvalidArgument, "version should be in MAJOR.MINOR format")
	}

	major, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return status.Error(codes.InvalidArgument, "major version should be a number")
	}

	minor, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return status.Error(codes.InvalidArgument, "minor version should be a number")
	}

	if major < 3 || major == 3 && minor < 5 {
		return status.Error(codes.InvalidArgument, "etcd downgrade is only supported to 3.5 and later versions")
	}

	return nil
}
