package talos

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// maxKubeconfig bounds the size of a kubeconfig from a node.
const maxKubeconfig = 1 << 20

// Kubeconfig fetches the cluster's admin kubeconfig from a control plane node. kube.ParseAdmin must accept it before it
// is used. Role: admin.
func (n *Node) Kubeconfig(ctx context.Context) ([]byte, error) {
	const op = "fetch the kubeconfig"

	var packed bytes.Buffer

	err := conn.Read(ctx, n.Conn, op, conn.Terms{Idle: n.Pool.Idle()}, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Kubeconfig(ctx, &emptypb.Empty{})
	}, func(chunk *common.Data) error {
		if packed.Len() > maxKubeconfig {
			return n.Exceeds(op, fmt.Errorf("the node sent more than %d bytes", maxKubeconfig))
		}

		packed.Write(chunk.GetBytes())

		return nil
	})
	if err != nil {
		return nil, err
	}

	body, err := firstFile(&packed)

	return body, n.Fail(op, err)
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

// ClientCredentials are a new client certificate with its CA and key: PEM in base64, as in talosconfig files.
type ClientCredentials struct{ CA, Crt, Key string }

// GenerateClientConfig makes a client certificate with the roles, valid for ttl. Only control planes can do this. Role:
// admin.
func (n *Node) GenerateClientConfig(ctx context.Context, roles []string, ttl time.Duration) (ClientCredentials, error) {
	const op = "make a client certificate"

	m, err := first(n.machine().GenerateClientConfiguration(ctx, &machine.GenerateClientConfigurationRequest{Roles: roles, CrtTtl: durationpb.New(ttl)}))
	if err != nil {
		return ClientCredentials{}, n.Fail(op, err)
	}

	if len(m.GetCa()) == 0 || len(m.GetCrt()) == 0 || len(m.GetKey()) == 0 {
		return ClientCredentials{}, n.Fail(op, errors.New("the node sent no complete certificate"))
	}

	encode := base64.StdEncoding.EncodeToString

	return ClientCredentials{CA: encode(m.GetCa()), Crt: encode(m.GetCrt()), Key: encode(m.GetKey())}, nil
}
