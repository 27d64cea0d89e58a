package machined

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/images"
	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// Reboot implements machine.MachineService.
func (s *Service) Reboot(_ context.Context, req *machine.RebootRequest) (*machine.RebootResponse, error) {
	actor := s.node.ActorID()
	mode := node.RebootDefault

	switch req.GetMode() {
	case machine.RebootRequest_POWERCYCLE:
		mode = node.RebootPowercycle
	case machine.RebootRequest_FORCE:
		mode = node.RebootForce

		if !s.node.HasLifecycleAPI() {
			mode = node.RebootDefault // before 1.13 this value is unknown and has no effect
		}
	case machine.RebootRequest_DEFAULT:
	}

	s.node.Reboot(actor, mode)

	return &machine.RebootResponse{Messages: []*machine.Reboot{{ActorId: actor}}}, nil
}

// Shutdown implements machine.MachineService.
func (s *Service) Shutdown(_ context.Context, req *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	actor := s.node.ActorID()
	s.node.Shutdown(actor, req.GetForce())

	return &machine.ShutdownResponse{Messages: []*machine.Shutdown{{ActorId: actor}}}, nil
}

// Rollback implements machine.MachineService.
func (s *Service) Rollback(context.Context, *machine.RollbackRequest) (*machine.RollbackResponse, error) {
	if !s.node.Installed() {
		return nil, status.Errorf(codes.FailedPrecondition, "system disk not found")
	}

	if err := s.node.Rollback(); err != nil {
		return nil, err
	}

	return &machine.RollbackResponse{Messages: []*machine.Rollback{{}}}, nil
}

// Upgrade implements machine.MachineService: the API before 1.13, which newer versions still serve.
func (s *Service) Upgrade(ctx context.Context, req *machine.UpgradeRequest) (*machine.UpgradeResponse, error) {
	actor := s.node.ActorID()

	if !s.node.Installed() {
		return nil, status.Errorf(codes.FailedPrecondition, "Talos is not installed")
	}

	ref, err := images.ParseReference(req.GetImage())
	if err != nil {
		return nil, fmt.Errorf("error validating installer image %q: %w", req.GetImage(), err)
	}

	if _, err = s.node.Pull(ctx, images.System, req.GetImage(), func(string, bool, int64, int64) {}); err != nil {
		return nil, fmt.Errorf("error validating installer image %q: error pulling image: %w", req.GetImage(), err)
	}

	m, err := s.node.Registry.Resolve(ref)
	if err != nil {
		return nil, fmt.Errorf("error validating installer image %q: %w", req.GetImage(), err)
	}

	if m.Installer == nil {
		return nil, fmt.Errorf("error validating installer image %q: %w", req.GetImage(), node.ErrNoInstaller)
	}

	if s.node.IsControlPlane() && s.node.Etcd != nil && !s.node.Maintenance() && !req.GetForce() && !req.GetPreserve() { //nolint:staticcheck // the old API's own field
		if err := s.validateEtcdForUpgrade(ctx); err != nil {
			return nil, err
		}
	}

	s.node.LegacyUpgrade(actor, req.GetImage(), m, req.GetStage())

	return &machine.UpgradeResponse{Messages: []*machine.Upgrade{{Ack: "Upgrade request received", ActorId: actor}}}, nil
}

// upgradeMutex is the etcd key of the lock under which machined lets one node check at a time.
const upgradeMutex = "talos:v1:etcdUpgradeMutex"

// validateEtcdForUpgrade is the etcd check of the old API: all members are healthy, and there are not exactly two.
func (s *Service) validateEtcdForUpgrade(ctx context.Context) error {
	client, err := s.node.AnyEtcd(ctx)
	if err != nil {
		return fmt.Errorf("failed to create etcd client: %w", err)
	}
	defer client.Close() //nolint:errcheck

	session, err := concurrency.NewSession(client, concurrency.WithContext(ctx), concurrency.WithTTL(60))
	if err != nil {
		return fmt.Errorf("failed to acquire upgrade mutex: error establishing etcd concurrency session: %w", err)
	}
	defer session.Close() //nolint:errcheck

	mutex := concurrency.NewMutex(session, upgradeMutex)
	if err := mutex.TryLock(ctx); err != nil {
		return fmt.Errorf("failed to acquire upgrade mutex: error trying to lock etcd upgrade mutex: %w", err)
	}

	defer func() {
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()

		_ = mutex.Unlock(unlock) //nolint:errcheck // the session's end releases it too
	}()

	members, err := client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("error validating etcd for upgrade: %w", err)
	}

	if len(members.Members) == 2 {
		return errors.New("error validating etcd for upgrade: etcd member count(2) is insufficient to maintain quorum if upgrade commences")
	}

	for _, m := range members.Members {
		if m.Name == "" {
			return fmt.Errorf("error validating etcd for upgrade: etcd member %016x is not started, all members must be running to perform an upgrade", m.ID)
		}

		if err := s.memberHealthy(ctx, m.Name); err != nil {
			return fmt.Errorf("error validating etcd for upgrade: etcd member %016x is not healthy; all members must be healthy to perform an upgrade: %w", m.ID, err)
		}
	}

	return nil
}

// memberHealthy reads a key through one member, which needs quorum.
func (s *Service) memberHealthy(ctx context.Context, name string) error {
	for _, m := range s.node.EtcdMembers(false) {
		if m.Name() != name {
			continue
		}

		client, err := m.Client(ctx)
		if err != nil {
			return err
		}
		defer client.Close() //nolint:errcheck

		check, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()

		_, err = client.Get(clientv3.WithRequireLeader(check), "health")

		return err
	}

	return fmt.Errorf("member %q is unknown", name)
}

// ServiceStart implements machine.MachineService.
func (s *Service) ServiceStart(_ context.Context, req *machine.ServiceStartRequest) (*machine.ServiceStartResponse, error) {
	if err := s.node.ServiceCommand(req.Id, "start"); err != nil {
		return nil, err
	}

	return &machine.ServiceStartResponse{Messages: []*machine.ServiceStart{{Resp: fmt.Sprintf("Service %q started", req.Id)}}}, nil
}

// ServiceStop implements machine.MachineService.
func (s *Service) ServiceStop(_ context.Context, req *machine.ServiceStopRequest) (*machine.ServiceStopResponse, error) {
	if err := s.node.ServiceCommand(req.Id, "stop"); err != nil {
		return nil, err
	}

	return &machine.ServiceStopResponse{Messages: []*machine.ServiceStop{{Resp: fmt.Sprintf("Service %q stopped", req.Id)}}}, nil
}

// ServiceRestart implements machine.MachineService.
func (s *Service) ServiceRestart(_ context.Context, req *machine.ServiceRestartRequest) (*machine.ServiceRestartResponse, error) {
	if err := s.node.ServiceCommand(req.Id, "restart"); err != nil {
		return nil, err
	}

	return &machine.ServiceRestartResponse{Messages: []*machine.ServiceRestart{{Resp: fmt.Sprintf("Service %q restarted", req.Id)}}}, nil
}
