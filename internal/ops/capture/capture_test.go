package capture_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/capture"
	"github.com/talosmate/talosmate/internal/talos"
)

func pcap(order binary.AppendByteOrder, packets ...string) []byte {
	out := order.AppendUint32(nil, 0xa1b23c4d)
	out = append(out, make([]byte, 20)...)

	for _, p := range packets {
		out = append(out, make([]byte, 8)...)
		out = order.AppendUint32(out, uint32(len(p)))
		out = order.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}

	return out
}

func TestWriter(t *testing.T) {
	t.Parallel()

	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		whole := pcap(order, "one", "two2", "three")

		for size := 1; size < 40; size++ {
			var out bytes.Buffer

			w := capture.Writer{Out: &out}
			for chunk := range slices.Chunk(append(slices.Clone(whole), 1, 2, 3), size) {
				if err := w.Write(chunk); err != nil {
					t.Fatal(err)
				}
			}

			if !bytes.Equal(out.Bytes(), whole) || w.Packets != 3 || w.Bytes != int64(len(whole)) {
				t.Errorf("chunks of %d: %d packets, %d bytes", size, w.Packets, out.Len())
			}
		}

		var out bytes.Buffer

		w := capture.Writer{Out: &out, Max: 2}
		if err := w.Write(whole); !errors.Is(err, capture.ErrFull) || !bytes.Equal(out.Bytes(), pcap(order, "one", "two2")) {
			t.Errorf("%v, %d bytes", err, out.Len())
		}
	}

	broken := capture.Writer{Out: &bytes.Buffer{}}
	if err := broken.Write(bytes.Repeat([]byte("x"), 30)); err == nil {
		t.Error("no capture, no error")
	}
}

func TestParseFilter(t *testing.T) {
	t.Parallel()

	got, err := capture.ParseFilter("{ 0x28, 0, 0, 0x0000000c },\n{ 0x15, 0, 1, 0x00000806 },\n{ 0x6, 0, 0, 0x00040000 },\n{0x6,0,0,0x0},")
	if err != nil || len(got) != 4 || got[1] != (talos.BPFInstruction{Op: 0x15, Jf: 1, K: 0x806}) {
		t.Errorf("%v %v", got, err)
	}

	for _, bad := range []string{"tcp port 80", "{ 1, 2, 3 }", "{ 0x1ffff, 0, 0, 0 }", "{ 1, 256, 0, 0 }"} {
		if _, err := capture.ParseFilter(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
