package machined

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// storageService is storage.StorageService.
type storageService struct {
	storage.UnimplementedStorageServiceServer
	*Service
}

func (s *storageService) list(ctx context.Context, typ resource.Type) ([]resource.Resource, error) {
	st, err := s.node.State(ctx)
	if err != nil {
		return nil, err
	}

	return st.List(ctx, resource.NewMetadata(block.NamespaceName, typ, "", resource.VersionUndefined))
}

// Disks implements storage.StorageService.
func (s *storageService) Disks(ctx context.Context, _ *emptypb.Empty) (*storage.DisksResponse, error) {
	items, err := s.list(ctx, block.DiskType)
	if err != nil {
		return nil, err
	}

	out := &storage.Disks{}

	for _, item := range items {
		d, ok := item.(*block.Disk)
		if !ok {
			continue
		}

		spec := d.TypedSpec()
		out.Disks = append(out.Disks, &storage.Disk{
			DeviceName: "/dev/" + d.Metadata().ID(), Model: spec.Model, Size: spec.Size, Serial: spec.Serial, Modalias: spec.Modalias,
			Wwid: spec.WWID, Uuid: spec.UUID, Type: diskType(spec), BusPath: spec.BusPath,
			SystemDisk: spec.DevPath == s.node.SystemDiskPath(), Subsystem: spec.SubSystem, Readonly: spec.Readonly,
		})
	}

	return &storage.DisksResponse{Messages: []*storage.Disks{out}}, nil
}

func diskType(spec *block.DiskSpec) storage.Disk_DiskType {
	switch {
	case spec.CDROM:
		return storage.Disk_CD
	case spec.Transport == "nvme":
		return storage.Disk_NVME
	case spec.Transport == "mmc":
		return storage.Disk_SD
	case spec.Rotational:
		return storage.Disk_HDD
	case spec.Transport != "":
		return storage.Disk_SSD
	default:
		return storage.Disk_UNKNOWN
	}
}

// BlockDeviceWipe implements storage.StorageService.
func (s *storageService) BlockDeviceWipe(ctx context.Context, req *storage.BlockDeviceWipeRequest) (*storage.BlockDeviceWipeResponse, error) {
	if !s.node.Maintenance() && !rbac.Roles(ctx).Includes(role.Admin) {
		return nil, rbac.ErrNotAuthorized
	}

	for _, d := range req.GetDevices() {
		if err := s.wipeable(ctx, d); err != nil {
			return nil, err
		}
	}

	for _, d := range req.GetDevices() {
		switch d.GetMethod() {
		case storage.BlockDeviceWipeDescriptor_FAST, storage.BlockDeviceWipeDescriptor_ZEROES:
		default:
			return nil, status.Errorf(codes.InvalidArgument, "unsupported wipe method %s", d.GetMethod())
		}

		if s.node.DeviceMounted(d.GetDevice()) {
			return nil, status.Errorf(codes.FailedPrecondition, "block device %q is mounted or in use", d.GetDevice())
		}

		s.node.WipeDevice(d.GetDevice(), d.GetMethod() == storage.BlockDeviceWipeDescriptor_ZEROES, d.GetDropPartition())
	}

	return &storage.BlockDeviceWipeResponse{Messages: []*storage.BlockDeviceWipe{{}}}, nil
}

// wipeable repeats Talos's checks of a device, in their order.
func (s *storageService) wipeable(ctx context.Context, d *storage.BlockDeviceWipeDescriptor) error {
	name := d.GetDevice()

	devices, err := s.list(ctx, block.DeviceType)
	if err != nil {
		return err
	}

	i := slices.IndexFunc(devices, func(r resource.Resource) bool { return r.Metadata().ID() == name })
	if i < 0 {
		return status.Errorf(codes.NotFound, "blockdevice %q not found", name)
	}

	device, ok := devices[i].(*block.Device)
	if !ok {
		return status.Errorf(codes.Internal, "blockdevice %q is of no known form", name)
	}

	parent := device.TypedSpec().Parent

	if !d.GetSkipSecondaryCheck() {
		for _, r := range devices {
			if other, ok := r.(*block.Device); ok && slices.Contains(other.TypedSpec().Secondaries, name) {
				return status.Errorf(codes.FailedPrecondition, "blockdevice %q is in use by blockdevice %q", name, r.Metadata().ID())
			}
		}
	}

	if d.GetSkipVolumeCheck() {
		return nil
	}

	volumes, err := s.list(ctx, block.VolumeStatusType)
	if err != nil {
		return err
	}

	for _, r := range volumes {
		v, ok := r.(*block.VolumeStatus)
		if !ok {
			continue
		}

		for _, location := range []string{base(v.TypedSpec().Location), base(v.TypedSpec().MountLocation)} {
			for _, dev := range []string{name, parent} {
				if dev != "" && location == dev {
					return status.Errorf(codes.FailedPrecondition, "blockdevice %q is in use by volume %q", dev, r.Metadata().ID())
				}
			}
		}

		if base(v.TypedSpec().ParentLocation) == name {
			return status.Errorf(codes.FailedPrecondition, "blockdevice %q is in use by volume %q", name, r.Metadata().ID())
		}
	}

	return nil
}

func base(location string) string {
	if location == "" {
		return ""
	}

	return filepath.Base(location)
}

// timeService is time.TimeService.
type timeService struct {
	timeapi.UnimplementedTimeServiceServer
	*Service
}

// Time implements time.TimeService with the node's own time server.
func (s *timeService) Time(ctx context.Context, _ *emptypb.Empty) (*timeapi.TimeResponse, error) {
	return s.check(ctx, "time.cloudflare.com")
}

// TimeCheck implements time.TimeService.
func (s *timeService) TimeCheck(ctx context.Context, req *timeapi.TimeRequest) (*timeapi.TimeResponse, error) {
	return s.check(ctx, req.GetServer())
}

// check answers for every server whose name resolves. The lab has its own true time.
func (s *timeService) check(_ context.Context, server string) (*timeapi.TimeResponse, error) {
	if server == "" || strings.Contains(server, "nosuch") || strings.HasSuffix(server, ".invalid") {
		return nil, fmt.Errorf("error querying NTP server %q: %w", server, &net.DNSError{Err: "no such host", Name: server, IsNotFound: true})
	}

	local := s.node.Now()

	return &timeapi.TimeResponse{Messages: []*timeapi.Time{{
		Server: server, Localtime: timestamppb.New(local), Remotetime: timestamppb.New(time.Now()),
	}}}, nil
}
