package machined

import (
	"context"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	storageres "github.com/siderolabs/talos/pkg/machinery/resources/storage"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// lvmService is machine.LVMService.
type lvmService struct {
	machine.UnimplementedLVMServiceServer
	*Service
}

// mdService is machine.MDService.
type mdService struct {
	machine.UnimplementedMDServiceServer
	*Service
}

func (s *Service) removeLayers(ctx context.Context, what string, which, keeps func(resource.Resource) bool) (*emptypb.Empty, error) {
	if !s.node.Maintenance() && !rbac.Roles(ctx).Includes(role.Admin) {
		return nil, rbac.ErrNotAuthorized
	}

	if err := s.node.RemoveLayers(what, which, keeps); err != nil {
		return nil, err
	}

	return &emptypb.Empty{}, nil
}

func logical(r resource.Resource, group, name string) (open, found bool) {
	lv, ok := r.(*storageres.LVMLogicalVolumeStatus)
	if !ok || lv.TypedSpec().VGName != group || name != "" && lv.TypedSpec().Name != name {
		return false, false
	}

	return lv.TypedSpec().DeviceOpen == "open", true
}

// LogicalVolumeRemove implements machine.LVMService.
func (s *lvmService) LogicalVolumeRemove(ctx context.Context, req *machine.LVMServiceLogicalVolumeRemoveRequest) (*emptypb.Empty, error) {
	group, name := req.GetVolumeGroup(), req.GetLogicalVolume()

	return s.removeLayers(ctx, "lvm",
		func(r resource.Resource) bool { _, found := logical(r, group, name); return found },
		func(r resource.Resource) bool { open, _ := logical(r, group, name); return open })
}

// VolumeGroupRemove implements machine.LVMService. It takes the group's logical volumes along; the physical volumes stay.
func (s *lvmService) VolumeGroupRemove(ctx context.Context, req *machine.LVMServiceVolumeGroupRemoveRequest) (*emptypb.Empty, error) {
	group := req.GetVolumeGroup()

	return s.removeLayers(ctx, "lvm",
		func(r resource.Resource) bool {
			vg, ok := r.(*storageres.LVMVolumeGroupStatus)
			_, found := logical(r, group, "")

			return found || ok && vg.TypedSpec().Name == group
		},
		func(r resource.Resource) bool { open, _ := logical(r, group, ""); return open })
}

// PhysicalVolumeRemove implements machine.LVMService.
func (s *lvmService) PhysicalVolumeRemove(ctx context.Context, req *machine.LVMServicePhysicalVolumeRemoveRequest) (*emptypb.Empty, error) {
	is := func(r resource.Resource) (*storageres.LVMPhysicalVolumeStatus, bool) {
		pv, ok := r.(*storageres.LVMPhysicalVolumeStatus)

		return pv, ok && pv.TypedSpec().Device == req.GetDevice()
	}

	return s.removeLayers(ctx, "lvm",
		func(r resource.Resource) bool { _, ok := is(r); return ok },
		func(r resource.Resource) bool { pv, ok := is(r); return ok && pv.TypedSpec().VGName != "" })
}

// Destroy implements machine.MDService.
func (s *mdService) Destroy(ctx context.Context, req *machine.MDDestroyRequest) (*emptypb.Empty, error) {
	return s.removeLayers(ctx, "md",
		func(r resource.Resource) bool {
			md, ok := r.(*storageres.MDArrayStatus)

			return ok && md.TypedSpec().Device == req.GetDevice()
		},
		func(resource.Resource) bool { return false })
}
