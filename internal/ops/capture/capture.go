// Package capture reads packet captures as streams: it counts packets and ends a capture between two of them, so that
// every file is complete.
package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos"
)

// ErrFull is returned by Write when the wanted number of packets was written.
var ErrFull = errors.New("enough packets")

// maxRecord bounds the memory for one packet; the default frame of Talos is 4 KiB.
const maxRecord = 16 << 20

// Writer passes on a pcap stream in whole records.
type Writer struct {
	Out     io.Writer
	Max     int64 // How many packets, 0 for any.
	Packets int64 // How many packets were written.
	Bytes   int64 // How many bytes were written.

	pending []byte
	order   binary.ByteOrder // nil before the file header.
}

// Write takes a chunk of any size.
func (w *Writer) Write(chunk []byte) error {
	w.pending = append(w.pending, chunk...)

	for {
		n, packet, err := w.next()
		if err != nil || n == 0 || len(w.pending) < n {
			return err
		}

		if _, err = w.Out.Write(w.pending[:n]); err != nil {
			return err
		}

		w.Bytes += int64(n)
		w.pending = w.pending[n:]

		if packet {
			if w.Packets++; w.Max > 0 && w.Packets >= w.Max {
				return ErrFull
			}
		}
	}
}

// next is the length of the next record, 0 while its header is incomplete.
func (w *Writer) next() (n int, packet bool, err error) {
	const fileHeader, recordHeader = 24, 16

	if w.order == nil {
		if len(w.pending) < fileHeader {
			return 0, false, nil
		}

		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			if magic := order.Uint32(w.pending); magic == 0xa1b2c3d4 || magic == 0xa1b23c4d {
				w.order = order

				return fileHeader, false, nil
			}
		}

		return 0, false, errors.New("the node's answer is not a packet capture")
	}

	if len(w.pending) < recordHeader {
		return 0, false, nil
	}

	size := w.order.Uint32(w.pending[8:])
	if size > maxRecord {
		return 0, false, fmt.Errorf("the node's packet capture is broken: a packet of %d bytes", size)
	}

	return recordHeader + int(size), true, nil
}

// ParseFilter reads the instructions that `tcpdump -dd EXPRESSION` prints: { 0x28, 0, 0, 0x0000000c }, …
func ParseFilter(text string) ([]talos.BPFInstruction, error) {
	number := `\s*(0[xX][0-9a-fA-F]+|\d+)\s*`
	line := regexp.MustCompile(`\{` + number + "," + number + "," + number + "," + number + `\}`)

	if rest := strings.Trim(line.ReplaceAllString(text, ""), ", \t\r\n"); rest != "" {
		return nil, errs.Usagef("cannot read the filter at %q", rest).WithHint("give the instructions that `tcpdump -dd EXPRESSION` prints")
	}

	var out []talos.BPFInstruction

	for _, m := range line.FindAllStringSubmatch(text, -1) {
		var f [4]uint32

		for i, bits := range []int{16, 8, 8, 32} {
			v, err := strconv.ParseUint(m[i+1], 0, bits)
			if err != nil {
				return nil, errs.Usagef("cannot read the filter: %w", err)
			}

			f[i] = uint32(v) //nolint:gosec // G115: ParseUint has checked the bits
		}

		out = append(out, talos.BPFInstruction{Op: f[0], Jt: f[1], Jf: f[2], K: f[3]})
	}

	return out, nil
}
