package talos

import (
	"context"
	"errors"
	"io"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// Bootstrap makes the node's member the first of a new etcd cluster, from the uploaded snapshot if recover is set. Only
// the first request to any of the control planes succeeds: the second is "already exists". Role: admin.
func (n *Node) Bootstrap(ctx context.Context, recover, skipHashCheck bool) error { //nolint:predeclared // named as in Talos
	_, err := n.machine().Bootstrap(ctx, &machine.BootstrapRequest{RecoverEtcd: recover, RecoverSkipHashCheck: skipHashCheck})

	return n.fail("bootstrap", err)
}

// uploadChunk is the size of one message of a snapshot upload.
const uploadChunk = 64 << 10

// UploadSnapshot sends an etcd snapshot to the node for a bootstrap. A second upload replaces the first. sent receives
// the number of bytes so far. Role: admin.
func (n *Node) UploadSnapshot(ctx context.Context, from io.Reader, sent func(int64)) error {
	const op = "upload the etcd snapshot"

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	stream, err := n.machine().EtcdRecover(ctx)
	if err != nil {
		return n.fail(op, err)
	}

	buf, total := make([]byte, uploadChunk), int64(0)

	for {
		size, readErr := from.Read(buf)
		if size > 0 {
			if err = stream.Send(&common.Data{Bytes: buf[:size]}); err != nil {
				if errors.Is(err, io.EOF) {
					break // the node has ended the call; the answer has the reason
				}

				return n.fail(op, err)
			}

			total += int64(size)
			sent(total)
		}

		if errors.Is(readErr, io.EOF) {
			break
		}

		if readErr != nil {
			return n.fail(op, readErr)
		}
	}

	_, err = stream.CloseAndRecv()

	return n.fail(op, err)
}
