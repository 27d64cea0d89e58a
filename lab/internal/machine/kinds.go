package machine

import (
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/containers"
	"github.com/siderolabs/talos/pkg/machinery/resources/cri"
	"github.com/siderolabs/talos/pkg/machinery/resources/hardware"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"github.com/siderolabs/talos/pkg/machinery/resources/storage"
)

// kinds114 are the resource types that Talos 1.14 has and 1.13 has not (the recordings of both).
func kinds114() []meta.ResourceDefinitionProvider {
	return []meta.ResourceDefinitionProvider{
		block.FSScrubScheduleExtension{},
		block.FSScrubStatusExtension{},
		block.VolumeTrimScheduleExtension{},
		containers.ContainerSpecExtension{},
		cri.BaseRuntimeSpecConfigExtension{},
		cri.CustomizationConfigExtension{},
		hardware.CPUCoreExtension{},
		k8s.AuthenticationConfigExtension{},
		k8s.EtcdEncryptionConfigExtension{},
		k8s.KubeletStatusExtension{},
		network.BGPInstanceConfigExtension{},
		network.BGPPeerStatusExtension{},
		network.StaticHostExtension{},
		runtime.BootIDExtension{},
		runtime.ImageFactorySchematicExtension{},
		runtime.KernelModuleStatusExtension{},
		runtime.RebootRequestExtension{},
		runtime.UnattendedInstallStatusExtension{},
		storage.LVMLogicalVolumeSpecExtension{},
		storage.LVMLogicalVolumeStatusExtension{},
		storage.LVMPhysicalVolumeSpecExtension{},
		storage.LVMPhysicalVolumeStatusExtension{},
		storage.LVMRefreshRequestExtension{},
		storage.LVMValidationErrorExtension{},
		storage.LVMVolumeGroupSpecExtension{},
		storage.LVMVolumeGroupStatusExtension{},
		storage.MDArraySpecExtension{},
		storage.MDArrayStatusExtension{},
		storage.MDRefreshRequestExtension{},
	}
}
