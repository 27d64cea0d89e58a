package talos

import (
	"context"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
)

// BPFInstruction is one instruction of a packet filter.
type BPFInstruction struct{ Op, Jt, Jf, K uint32 }

// CaptureRequest selects the packets to capture.
type CaptureRequest struct {
	Interface   string
	Promiscuous bool
	SnapLength  uint32 // Bytes kept of each packet, 0 for the node's own default.
	Filter      []BPFInstruction
}

// Capture streams a pcap file, in chunks of any size, until the context ends. Roles: operator, admin.
func (n *Node) Capture(ctx context.Context, r CaptureRequest, fn func([]byte) error) error {
	req := &machine.PacketCaptureRequest{Interface: r.Interface, Promiscuous: r.Promiscuous, SnapLen: r.SnapLength}
	for _, i := range r.Filter {
		req.BpfFilter = append(req.BpfFilter, &machine.BPFInstruction{Op: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}

	return pull(ctx, n, "capture packets of "+r.Interface, 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().PacketCapture(ctx, req)
	}, func(d *common.Data) error { return fn(d.GetBytes()) })
}
