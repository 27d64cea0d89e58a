package talos

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// neverReboots is a node of Talos 1.14 and newer.
type neverReboots struct {
	machine.UnimplementedMachineServiceServer

	got []string
}

func (n *neverReboots) ApplyConfiguration(_ context.Context, req *machine.ApplyConfigurationRequest) (*machine.ApplyConfigurationResponse, error) {
	n.got = append(n.got, req.GetMode().String())

	if req.GetMode() == machine.ApplyConfigurationRequest_REBOOT { //nolint:staticcheck // the mode that is gone
		return nil, status.Error(codes.Unimplemented, "the REBOOT mode is not supported, please use AUTO or NO_REBOOT modes instead")
	}

	return &machine.ApplyConfigurationResponse{Messages: []*machine.ApplyConfiguration{{Mode: req.GetMode()}}}, nil
}

func (n *neverReboots) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	n.got = append(n.got, "reboot")

	return &machine.RebootResponse{Messages: []*machine.Reboot{{}}}, nil
}

func TestApplyWithRebootWhereTalosHasNoSuchMode(t *testing.T) {
	t.Parallel()

	server := &neverReboots{}
	n := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, server) })

	got, err := n.ApplyConfig(t.Context(), []byte("x"), ApplyReboot, time.Minute, false)
	if err != nil || got.Mode != ApplyReboot {
		t.Fatalf("mode %q, %v", got.Mode, err)
	}

	if want := []string{"REBOOT", "STAGED", "reboot"}; !slices.Equal(server.got, want) {
		t.Errorf("requests %v, want %v", server.got, want)
	}
}
