package machined

import (
	"encoding/binary"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// capturePacketEvery is the interval of the simulated packets.
const capturePacketEvery = 20 * time.Millisecond

// PacketCapture implements machine.MachineService: a pcap stream of made-up packets.
func (s *Service) PacketCapture(req *machine.PacketCaptureRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	st, err := s.node.State(srv.Context())
	if err != nil {
		return err
	}

	if _, err := st.Get(srv.Context(), resource.NewMetadata(network.NamespaceName, network.LinkStatusType, req.Interface, resource.VersionUndefined)); err != nil {
		if state.IsNotFoundError(err) {
			return status.Errorf(codes.NotFound, "interface %q not found", req.Interface)
		}

		return err
	}

	snap := req.SnapLen
	if snap == 0 {
		snap = 4096
	}

	if err := srv.Send(&common.Data{Bytes: pcapHeader(snap)}); err != nil {
		return err
	}

	ticker := time.NewTicker(capturePacketEvery)
	defer ticker.Stop()

	for sequence := uint32(0); ; sequence++ {
		select {
		case now := <-ticker.C:
			if err := srv.Send(&common.Data{Bytes: pcapPacket(now, sequence, snap)}); err != nil {
				return err
			}
		case <-srv.Context().Done():
			return srv.Context().Err()
		}
	}
}

// pcapHeader is the file header of the classic format with Ethernet frames.
func pcapHeader(snap uint32) []byte {
	h := make([]byte, 24)
	binary.LittleEndian.PutUint32(h, 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], snap)
	binary.LittleEndian.PutUint32(h[20:], 1)

	return h
}

// pcapPacket is a record with a small UDP datagram in it.
func pcapPacket(now time.Time, sequence, snap uint32) []byte {
	frame := make([]byte, 14+20+8+16)
	copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0})
	binary.BigEndian.PutUint16(frame[16:], uint16(len(frame)-14))
	copy(frame[22:], []byte{64, 17, 0, 0, 10, 5, 0, 2, 10, 5, 0, 3})
	binary.BigEndian.PutUint16(frame[34:], 50000)
	binary.BigEndian.PutUint16(frame[36:], 53)
	binary.BigEndian.PutUint16(frame[38:], 24)
	binary.BigEndian.PutUint32(frame[42:], sequence)

	kept := min(uint32(len(frame)), snap)
	record := make([]byte, 16, 16+kept)
	binary.LittleEndian.PutUint32(record, uint32(now.Unix()))
	binary.LittleEndian.PutUint32(record[4:], uint32(now.Nanosecond()/1000))
	binary.LittleEndian.PutUint32(record[8:], kept)
	binary.LittleEndian.PutUint32(record[12:], uint32(len(frame)))

	return append(record, frame[:kept]...)
}
