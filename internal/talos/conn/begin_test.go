package conn

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"github.com/siderolabs/talos/pkg/machinery/api/inspect"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	"github.com/siderolabs/talos/pkg/machinery/api/time"
	"google.golang.org/grpc"
)

// reads are the methods that change nothing, by service; every other one of the API is a change.
func reads() []string {
	return []string{
		"cosi.resource.State: Get List Watch",
		"cluster.ClusterService: HealthCheck",
		"inspect.InspectService: ControllerRuntimeDependencies",
		"machine.ImageService: List Verify",
		"machine.MachineService: Containers Copy CPUFreqStats CPUInfo DiskStats Dmesg Events EtcdMemberList EtcdSnapshot EtcdAlarmList EtcdStatus " +
			"EtcdDowngradeValidate Hostname Kubeconfig List DiskUsage LoadAvg Logs LogsContainers Memory Mounts NetworkDeviceStats Processes Read " +
			"ServiceList Stats SystemStat Version PacketCapture Netstat ImageList",
		"storage.StorageService: Disks",
		"time.TimeService: Time TimeCheck",
	}
}

func TestBeginBeforeEveryChange(t *testing.T) {
	t.Parallel()

	refused := errors.New("it cannot be logged")
	c := &Conn{Pool: &Pool{Options: Options{Begin: func() error { return refused }}}} // with no connection: what is sent panics
	seen := 0

	for _, service := range []grpc.ServiceDesc{
		v1alpha1.State_ServiceDesc, cluster.ClusterService_ServiceDesc, inspect.InspectService_ServiceDesc, machine.ImageService_ServiceDesc,
		machine.LifecycleService_ServiceDesc, machine.MachineService_ServiceDesc, storage.StorageService_ServiceDesc, time.TimeService_ServiceDesc,
	} {
		var known []string

		for _, line := range reads() {
			if name, methods, _ := strings.Cut(line, ": "); name == service.ServiceName {
				known = strings.Fields(methods)
			}
		}

		var all []string
		for _, m := range service.Methods {
			all = append(all, m.MethodName)
		}

		for _, s := range service.Streams {
			all = append(all, s.StreamName)
		}

		for _, name := range all {
			method := "/" + service.ServiceName + "/" + name

			if slices.Contains(known, name) {
				if !isRead(method) {
					t.Errorf("%s counts as a change", method)
				}

				continue
			}

			seen++

			if err := c.Invoke(t.Context(), method, nil, nil); !errors.Is(err, refused) {
				t.Errorf("%s: %v", method, err)
			}

			if _, err := c.NewStream(t.Context(), &grpc.StreamDesc{}, method); !errors.Is(err, refused) {
				t.Errorf("%s as a stream: %v", method, err)
			}
		}
	}

	if seen < 25 {
		t.Errorf("only %d changes were seen", seen)
	}
}
