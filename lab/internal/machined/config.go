package machined

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configdiff"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	node "github.com/talosmate/talosmate/lab/internal/machine"
	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// metal is the validation mode of the simulated machines.
type metal struct{ installed bool }

func (metal) String() string          { return "metal" }
func (m metal) RequiresInstall() bool { return !m.installed }
func (metal) InContainer() bool       { return false }

// ApplyConfiguration implements machine.MachineService.
func (s *Service) ApplyConfiguration(ctx context.Context, req *machine.ApplyConfigurationRequest) (*machine.ApplyConfigurationResponse, error) {
	select {
	case s.conf <- struct{}{}:
		defer func() { <-s.conf }()
	default:
		return nil, status.Error(codes.FailedPrecondition, "another apply configuration is already in progress")
	}

	if s.rebooting.Load() {
		return nil, status.Error(codes.FailedPrecondition, "configuration was already applied and node is rebooting, cannot apply more configuration changes until next reboot")
	}

	maintenance := s.node.Maintenance()
	if !maintenance && !rbac.Roles(ctx).Includes(role.Admin) {
		return nil, rbac.ErrNotAuthorized
	}

	if req.Mode != machine.ApplyConfigurationRequest_TRY {
		s.node.CancelTry()
	}

	next, err := s.loadConfig(req.GetData(), maintenance)
	if err != nil {
		return nil, err
	}

	if req.Mode == machine.ApplyConfigurationRequest_REBOOT && !maintenance && s.node.AtLeast(14) {
		return nil, status.Error(codes.Unimplemented, "the REBOOT mode is not supported, please use AUTO or NO_REBOOT modes instead")
	}

	warnings, err := s.validateConfig(ctx, next)
	if err != nil {
		return nil, err
	}

	mode, details, suffix, err := s.applyMode(req.Mode, next, maintenance)
	if err != nil {
		return nil, err
	}

	if req.DryRun {
		diff, err := s.configDiff(next)
		if err != nil {
			return nil, fmt.Errorf("failed to generate diff: %w", err)
		}

		return &machine.ApplyConfigurationResponse{Messages: []*machine.ApplyConfiguration{{
			Mode: mode, ModeDetails: fmt.Sprintf("Dry run summary:\n%s (skipped in dry-run).\n%s", details, diff),
		}}}, nil
	}

	switch {
	case maintenance && !next.CompleteForBoot():
		s.node.Note("config", "incomplete, the node stays in maintenance mode")
	case maintenance:
		s.node.Configure(next)
	default:
		details, err = s.apply(mode, details, req, next)
	}

	if err != nil {
		return nil, err
	}

	return &machine.ApplyConfigurationResponse{Messages: []*machine.ApplyConfiguration{{
		Mode: mode, Warnings: warnings, ModeDetails: details + suffix,
	}}}, nil
}

// loadConfig decodes as Talos does, with machinery's own code.
func (s *Service) loadConfig(data []byte, maintenance bool) (config.Provider, error) {
	if err := unknownTo(s.node.AtLeast, data); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	next, err := configloader.NewFromBytes(data)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	if !maintenance && next.RawV1Alpha1() == nil {
		return nil, status.Error(codes.InvalidArgument, "the applied machine configuration doesn't contain v1alpha1 config, did you mean to patch the machine config instead?")
	}

	return next, nil
}

// validateConfig validates as Talos does, with machinery's own code, and returns the warnings. From 1.14 on all errors
// are in one list.
func (s *Service) validateConfig(ctx context.Context, next config.Provider) ([]string, error) {
	mode := metal{installed: s.node.Installed()}

	if mode.RequiresInstall() && !s.node.AtLeast(14) && !hasInstall(next) {
		return nil, status.Errorf(codes.InvalidArgument, "install instructions are required in %q mode", mode)
	}

	st, err := s.node.State(ctx)
	if err != nil {
		return nil, err
	}

	resources := state.WrapCore(typed{st.Core()})

	if s.node.AtLeast(14) {
		warnings, err := next.ValidateAtRuntime(ctx, resources, mode)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}

		return warnings, nil
	}

	warnings, err := next.Validate(mode)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	more, err := next.RuntimeValidate(ctx, resources, mode)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	return slices.Concat(warnings, more), nil
}

// typed reads the recorded resources as the types that machinery's validation expects.
type typed struct{ state.CoreState }

// Get implements state.CoreState.
func (t typed) Get(ctx context.Context, id resource.Pointer, o ...state.GetOption) (resource.Resource, error) {
	r, err := t.CoreState.Get(ctx, id, o...)
	if err != nil {
		return nil, err
	}

	return decoded(r)
}

// List implements state.CoreState.
func (t typed) List(ctx context.Context, kind resource.Kind, o ...state.ListOption) (resource.List, error) {
	list, err := t.CoreState.List(ctx, kind, o...)
	if err != nil {
		return list, err
	}

	for i, r := range list.Items {
		if list.Items[i], err = decoded(r); err != nil {
			return list, err
		}
	}

	return list, nil
}

func decoded(r resource.Resource) (resource.Resource, error) {
	if raw, ok := r.(*protobuf.Resource); ok {
		return protobuf.UnmarshalResource(raw)
	}

	return r, nil
}

// hasInstall reports whether a configuration has the section machine.install, which Talos 1.14 does not require.
func hasInstall(cfg config.Provider) bool {
	raw := cfg.RawV1Alpha1()

	return raw != nil && raw.MachineConfig != nil && raw.MachineConfig.MachineInstall != nil
}

// applyMode returns the effective mode and Talos's message for it. From 1.14 on no change needs a reboot.
func (s *Service) applyMode(mode machine.ApplyConfigurationRequest_Mode, next config.Provider, maintenance bool) (
	resolved machine.ApplyConfigurationRequest_Mode, details, suffix string, err error,
) {
	const (
		withReboot    = "Applied configuration with a reboot"
		withoutReboot = "Applied configuration without a reboot"
	)

	if maintenance && mode == machine.ApplyConfigurationRequest_REBOOT {
		mode = machine.ApplyConfigurationRequest_NO_REBOOT
	}

	switch mode {
	case machine.ApplyConfigurationRequest_TRY, machine.ApplyConfigurationRequest_NO_REBOOT:
		if err := s.node.CanApplyImmediately(next); err != nil && !maintenance && !s.node.AtLeast(14) {
			return mode, "", "", status.Error(codes.InvalidArgument, err.Error())
		}

		return mode, withoutReboot, "", nil
	case machine.ApplyConfigurationRequest_STAGED:
		return mode, "Staged configuration to be applied after the next reboot", "", nil
	case machine.ApplyConfigurationRequest_AUTO:
		if err := s.node.CanApplyImmediately(next); err != nil && !maintenance && !s.node.AtLeast(14) {
			return machine.ApplyConfigurationRequest_REBOOT, withReboot, ": " + err.Error(), nil
		}

		return machine.ApplyConfigurationRequest_NO_REBOOT, withoutReboot, "", nil
	case machine.ApplyConfigurationRequest_REBOOT:
		return mode, withReboot, "", nil
	default:
		return mode, withReboot, "", nil
	}
}

func (s *Service) configDiff(next config.Provider) (string, error) {
	var was config.Container
	if current := s.node.Config(); current != nil {
		was = current
	}

	diff, err := configdiff.DiffConfigs(was, next)
	if err != nil {
		return "", err
	}

	if diff == "" {
		diff = "No changes."
	}

	return "Config diff:\n\n" + diff, nil
}

func (s *Service) apply(mode machine.ApplyConfigurationRequest_Mode, details string, req *machine.ApplyConfigurationRequest, next config.Provider) (string, error) {
	switch mode {
	case machine.ApplyConfigurationRequest_TRY:
		timeout := constants.ConfigTryTimeout
		if req.TryModeTimeout != nil {
			timeout = req.TryModeTimeout.AsDuration()
		}

		s.node.ApplyTry(next, timeout)

		return details + fmt.Sprintf("\nThe config is applied in 'try' mode and will be automatically reverted back in %s", timeout), nil
	case machine.ApplyConfigurationRequest_NO_REBOOT:
		s.node.ApplyNow(next)
	case machine.ApplyConfigurationRequest_STAGED:
		s.node.ApplyStaged(next)
	case machine.ApplyConfigurationRequest_REBOOT:
		s.rebooting.Store(true)
		s.node.ApplyWithReboot(next)
	default:
		return "", fmt.Errorf("incorrect mode '%s' specified for the apply config call", mode)
	}

	return details, nil
}

// Bootstrap implements machine.MachineService.
func (s *Service) Bootstrap(_ context.Context, req *machine.BootstrapRequest) (*machine.BootstrapResponse, error) {
	if s.node.Maintenance() || s.node.Etcd == nil && s.node.IsControlPlane() {
		return nil, status.Error(codes.FailedPrecondition, "bootstrap is not available yet")
	}

	if err := s.controlPlaneOnly("bootstrap"); err != nil {
		return nil, err
	}

	if !s.node.Etcd.Empty() || s.node.Etcd.Running() {
		return nil, status.Error(codes.AlreadyExists, "etcd data directory is not empty")
	}

	if err := s.node.Bootstrap(req.GetRecoverEtcd(), req.GetRecoverSkipHashCheck()); err != nil {
		return nil, err
	}

	return &machine.BootstrapResponse{Messages: []*machine.Bootstrap{{}}}, nil
}

// EtcdRecover implements machine.MachineService: the upload of a snapshot.
func (s *Service) EtcdRecover(srv grpc.ClientStreamingServer[common.Data, machine.EtcdRecoverResponse]) error {
	if s.node.Maintenance() {
		return status.Error(codes.FailedPrecondition, "etcd service is not ready for recovery yet")
	}

	if err := s.controlPlaneOnly("etcd recover"); err != nil {
		return err
	}

	path := s.node.Etcd.RecoveryFile()

	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("error creating etcd recovery snapshot: %w", err)
	}

	if err := receive(srv, file); err != nil {
		return errors.Join(err, file.Close(), os.Remove(path))
	}

	if err := file.Close(); err != nil {
		return fmt.Errorf("error closing snapshot: %w", err)
	}

	return srv.SendAndClose(&machine.EtcdRecoverResponse{Messages: []*machine.EtcdRecover{{}}})
}

func receive(srv grpc.ClientStreamingServer[common.Data, machine.EtcdRecoverResponse], w io.Writer) error {
	for {
		msg, err := srv.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return err
		}

		if _, err := w.Write(msg.Bytes); err != nil {
			return fmt.Errorf("error writing snapshot: %w", err)
		}
	}
}

// Reset implements machine.MachineService.
func (s *Service) Reset(_ context.Context, req *machine.ResetRequest) (*machine.ResetResponse, error) {
	actor := s.node.ActorID()
	plan := node.ResetPlan{Graceful: req.GetGraceful(), Reboot: req.GetReboot(), Leave: s.leave}

	if len(req.GetUserDisksToWipe()) > 0 {
		if req.Mode == machine.ResetRequest_SYSTEM_DISK {
			return nil, errors.New("reset failed: invalid input, wipe mode SYSTEM_DISK doesn't support UserDisksToWipe parameter")
		}

		for _, disk := range req.GetUserDisksToWipe() {
			if !slices.Contains(s.node.Disks(), disk) {
				return nil, fmt.Errorf("reset user disk failed: device %s wasn't found", disk)
			}

			if disk == s.node.SystemDiskPath() {
				return nil, fmt.Errorf("reset user disk failed: device %s is the system disk", disk)
			}
		}
	}

	for _, spec := range req.GetSystemPartitionsToWipe() {
		if req.Mode == machine.ResetRequest_USER_DISKS {
			return nil, errors.New("reset failed: invalid input, wipe mode USER_DISKS doesn't support SystemPartitionsToWipe parameter")
		}

		if s.node.InEphemeral(spec.Label) {
			ephemeral := slices.ContainsFunc(req.GetSystemPartitionsToWipe(), func(s *machine.ResetPartitionSpec) bool { return s.Wipe && s.Label == "EPHEMERAL" })
			if !ephemeral {
				return nil, fmt.Errorf("failed to reset: volume %q resides on volume %q, and therefore %q cannot be wiped without wiping %q", spec.Label, "EPHEMERAL", spec.Label, "EPHEMERAL")
			}

			continue
		}

		if !s.node.HasVolume(spec.Label) {
			return nil, fmt.Errorf("failed to get volume status with label %q: resource VolumeStatuses.block.talos.dev(runtime/%s@undefined) doesn't exist", spec.Label, spec.Label)
		}

		if spec.Wipe {
			plan.Labels = append(plan.Labels, spec.Label)
		}
	}

	plan.SystemDisk = req.Mode != machine.ResetRequest_USER_DISKS
	if req.Mode != machine.ResetRequest_SYSTEM_DISK {
		plan.UserDisks = req.GetUserDisksToWipe()
	}

	s.node.Reset(actor, plan)

	return &machine.ResetResponse{Messages: []*machine.Reset{{ActorId: actor}}}, nil
}

// MetaWrite implements machine.MachineService.
func (s *Service) MetaWrite(_ context.Context, req *machine.MetaWriteRequest) (*machine.MetaWriteResponse, error) {
	if req.Key > 255 {
		return nil, status.Errorf(codes.InvalidArgument, "key must be a uint8")
	}

	s.node.PutMeta(uint8(req.Key), string(req.Value))

	return &machine.MetaWriteResponse{Messages: []*machine.MetaWrite{{}}}, nil
}

// MetaDelete implements machine.MachineService.
func (s *Service) MetaDelete(_ context.Context, req *machine.MetaDeleteRequest) (*machine.MetaDeleteResponse, error) {
	if req.Key > 255 {
		return nil, status.Errorf(codes.InvalidArgument, "key must be a uint8")
	}

	if !s.node.DeleteMeta(uint8(req.Key)) {
		return nil, status.Error(codes.NotFound, "meta key not found")
	}

	return &machine.MetaDeleteResponse{Messages: []*machine.MetaDelete{{}}}, nil
}

// GenerateClientConfiguration implements machine.MachineService.
func (s *Service) GenerateClientConfiguration(_ context.Context, req *machine.GenerateClientConfigurationRequest) (*machine.GenerateClientConfigurationResponse, error) {
	if err := s.controlPlaneOnly("generate client configuration"); err != nil {
		return nil, err
	}

	ttl := req.CrtTtl.AsDuration()
	if ttl <= 0 {
		return nil, status.Error(codes.InvalidArgument, "crt_ttl should be positive")
	}

	roles, _ := role.Parse(req.Roles)
	current := s.node.Config()

	bundle, err := secrets.NewBundleFromConfig(secrets.NewFixedClock(time.Now()), current)
	if err != nil {
		return nil, err
	}

	cert, err := bundle.GenerateTalosAPIClientCertificateWithTTL(roles, ttl)
	if err != nil {
		return nil, err
	}

	name := current.K8sClusterConfig().ClusterName()
	if r := roles.Strings(); len(r) == 1 {
		name = strings.TrimPrefix(r[0], role.Prefix) + "@" + name
	}

	raw, err := clientconfig.NewConfig(name, nil, bundle.Certs.OS.Crt, cert).Bytes()
	if err != nil {
		return nil, err
	}

	return &machine.GenerateClientConfigurationResponse{Messages: []*machine.GenerateClientConfiguration{
		{Ca: bundle.Certs.OS.Crt, Crt: cert.Crt, Key: cert.Key, Talosconfig: raw},
	}}, nil
}
