// Package rbac lists which Talos roles may call which method, and carries roles through metadata and context as apid
// and machined do. Source: the rules table of machined in Talos 1.13 and the authz middleware.
package rbac

import (
	"context"
	"crypto/x509"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ErrNotAuthorized is Talos's answer to a caller without the role.
var ErrNotAuthorized = status.Error(codes.PermissionDenied, "not authorized")

type contextKey struct{}

// WithRoles stores the caller's roles.
func WithRoles(ctx context.Context, roles role.Set) context.Context {
	return context.WithValue(ctx, contextKey{}, roles)
}

// Roles returns the caller's roles as stored by WithRoles.
func Roles(ctx context.Context) role.Set {
	roles, _ := ctx.Value(contextKey{}).(role.Set) //nolint:errcheck // no roles is the zero set

	return roles
}

// SetMetadata puts roles into outgoing metadata, as one apid sends them to another.
func SetMetadata(md metadata.MD, roles role.Set) {
	md.Set(constants.APIAuthzRoleMetadataKey, roles.Strings()...)
}

// FromMetadata reads the roles that another apid sent; it returns false when there are none.
func FromMetadata(ctx context.Context) (role.Set, bool) {
	md, _ := metadata.FromIncomingContext(ctx)

	names := md.Get(constants.APIAuthzRoleMetadataKey)
	if len(names) == 0 {
		return role.Zero, false
	}

	roles, _ := role.Parse(names)

	return roles, true
}

// FromCertificate reads the roles of a client certificate. An impersonator (another apid) may name the caller's roles.
func FromCertificate(ctx context.Context, cert *x509.Certificate) role.Set {
	roles, _ := role.Parse(cert.Subject.Organization)

	if roles.Includes(role.Impersonator) {
		if told, ok := FromMetadata(ctx); ok {
			return told
		}
	}

	return roles
}

// Authorize reports whether the roles in ctx may call the method.
func Authorize(ctx context.Context, method string) error {
	if Allowed(method).IncludesAny(Roles(ctx)) {
		return nil
	}

	return ErrNotAuthorized
}

// Allowed returns the roles of which any one suffices for a full method name. Methods without a rule need os:admin.
func Allowed(method string) role.Set {
	switch method {
	case "/machine.MachineService/EtcdAlarmList",
		"/machine.MachineService/EtcdMemberList",
		"/machine.MachineService/EtcdStatus":
		return role.MakeSet(role.Admin, role.Operator, role.Reader, role.EtcdBackup)
	case "/machine.MachineService/EtcdSnapshot":
		return role.MakeSet(role.Admin, role.Operator, role.EtcdBackup)
	case "/machine.MachineService/ApplyConfiguration",
		"/machine.LVMService/LogicalVolumeRemove",
		"/machine.LVMService/PhysicalVolumeRemove",
		"/machine.LVMService/VolumeGroupRemove",
		"/machine.MDService/Destroy",
		"/storage.StorageService/BlockDeviceWipe":
		// a reader passes here and is refused by the handler outside of maintenance mode
		return role.MakeSet(role.Admin, role.Reader)
	case "/machine.MachineService/MetaWrite",
		"/machine.MachineService/MetaDelete":
		return role.MakeSet(role.Admin, role.MetaWriter)
	case "/machine.ImageService/Verify":
		return role.MakeSet(role.Admin, role.Operator, role.Reader, role.ImageVerifier)
	case "/machine.ImageService/Pull",
		"/machine.MachineService/EtcdAlarmDisarm",
		"/machine.MachineService/EtcdDefragment",
		"/machine.MachineService/ImagePull",
		"/machine.MachineService/PacketCapture",
		"/machine.MachineService/Reboot",
		"/machine.MachineService/Restart",
		"/machine.MachineService/ServiceRestart",
		"/machine.MachineService/ServiceStart",
		"/machine.MachineService/ServiceStop",
		"/machine.MachineService/Shutdown":
		return role.MakeSet(role.Admin, role.Operator)
	case "/cluster.ClusterService/HealthCheck",
		"/cosi.resource.State/Get",
		"/cosi.resource.State/List",
		"/cosi.resource.State/Watch",
		"/inspect.InspectService/ControllerRuntimeDependencies",
		"/machine.ImageService/List",
		"/machine.MachineService/CPUFreqStats",
		"/machine.MachineService/CPUInfo",
		"/machine.MachineService/Containers",
		"/machine.MachineService/DiskStats",
		"/machine.MachineService/DiskUsage",
		"/machine.MachineService/Dmesg",
		"/machine.MachineService/Events",
		"/machine.MachineService/Hostname",
		"/machine.MachineService/ImageList",
		"/machine.MachineService/List",
		"/machine.MachineService/LoadAvg",
		"/machine.MachineService/Logs",
		"/machine.MachineService/LogsContainers",
		"/machine.MachineService/Memory",
		"/machine.MachineService/Mounts",
		"/machine.MachineService/Netstat",
		"/machine.MachineService/NetworkDeviceStats",
		"/machine.MachineService/Processes",
		"/machine.MachineService/ServiceList",
		"/machine.MachineService/Stats",
		"/machine.MachineService/SystemStat",
		"/machine.MachineService/Version",
		"/storage.StorageService/Disks",
		"/time.TimeService/Time",
		"/time.TimeService/TimeCheck":
		return role.MakeSet(role.Admin, role.Operator, role.Reader)
	default:
		return role.MakeSet(role.Admin)
	}
}

// Mutates reports whether a method changes state on the node that executes it.
func Mutates(method string) bool {
	switch method {
	case "/machine.ImageService/Import",
		"/machine.ImageService/Pull",
		"/machine.ImageService/Remove",
		"/machine.LifecycleService/Install",
		"/machine.LifecycleService/Upgrade",
		"/machine.MachineService/ApplyConfiguration",
		"/machine.MachineService/Bootstrap",
		"/machine.MachineService/EtcdAlarmDisarm",
		"/machine.MachineService/EtcdDefragment",
		"/machine.MachineService/EtcdDowngradeCancel",
		"/machine.MachineService/EtcdDowngradeEnable",
		"/machine.MachineService/EtcdForfeitLeadership",
		"/machine.MachineService/EtcdLeaveCluster",
		"/machine.MachineService/EtcdRecover",
		"/machine.MachineService/EtcdRemoveMemberByID",
		"/machine.MachineService/GenerateClientConfiguration",
		"/machine.MachineService/ImagePull",
		"/machine.MachineService/MetaDelete",
		"/machine.MachineService/MetaWrite",
		"/machine.MachineService/Reboot",
		"/machine.MachineService/Reset",
		"/machine.MachineService/Restart",
		"/machine.MachineService/Rollback",
		"/machine.MachineService/ServiceRestart",
		"/machine.MachineService/ServiceStart",
		"/machine.MachineService/ServiceStop",
		"/machine.MachineService/Shutdown",
		"/machine.MachineService/Upgrade",
		"/machine.LVMService/LogicalVolumeRemove",
		"/machine.LVMService/PhysicalVolumeRemove",
		"/machine.LVMService/VolumeGroupRemove",
		"/machine.MDService/Destroy",
		"/storage.StorageService/BlockDeviceWipe":
		return true
	default:
		return false
	}
}
