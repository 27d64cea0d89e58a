package talos

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// maxKubeconfig bounds the size of a kubeconfig from a node.
const maxKubeconfig = 1 << 20

// Kubeconfig fetches the cluster's admin kubeconfig from a control plane node. kube.ParseAdmin must accept it before it
// is used. Role: admin.
func (n *Node) Kubeconfig(ctx context.Context) ([]byte, error) {
	const op = "fetch the kubeconfig"

	var packed bytes.Buffer

	err := read(ctx, n, op, terms{idle: n.cluster.Idle()}, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Kubeconfig(ctx, &emptypb.Empty{})
	}, func(chunk *common.Data) error {
		if packed.Len() > maxKubeconfig {
			return n.tooMuch(op, fmt.Errorf("the node sent more than %d bytes", maxKubeconfig))
		}

		packed.Write(chunk.GetBytes())

		return nil
	})
	if err != nil {
		return nil, err
	}

	body, err := firstFile(&packed)

	return body, n.fail(op, err)
}

// firstFile unpacks the only file of a gzipped tar.
func firstFile(packed io.Reader) ([]byte, error) {
	unzip, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("the answer is not gzip: %w", err)
	}

	archive := tar.NewReader(io.LimitReader(unzip, 2*maxKubeconfig))

	for {
		header, err := archive.Next()
		if err != nil {
			return nil, fmt.Errorf("the answer holds no file: %w", err)
		}

		if header.Typeflag == tar.TypeReg {
			return io.ReadAll(archive)
		}
	}
}
