package machined

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	talosx509 "github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/lab/internal/kubeconfig"
)

// Kubeconfig implements machine.MachineService: the administrator's kubeconfig, in an archive.
func (s *Service) Kubeconfig(_ *emptypb.Empty, srv grpc.ServerStreamingServer[common.Data]) error {
	if err := s.controlPlaneOnly("kubeconfig"); err != nil {
		return err
	}

	raw := s.node.AdminKubeconfig()
	if raw == nil {
		generated, err := s.generateKubeconfig()
		if err != nil {
			return err
		}

		raw = generated
	}

	var out bytes.Buffer

	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)

	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "kubeconfig", Size: int64(len(raw)), ModTime: time.Now(), Mode: 0o600}); err != nil {
		return err
	}

	if _, err := tw.Write(raw); err != nil {
		return err
	}

	// the archive is flushed and not closed: Talos omits its trailer too
	if err := errors.Join(tw.Flush(), zw.Close()); err != nil {
		return err
	}

	return srv.Send(&common.Data{Bytes: out.Bytes()})
}

// generateKubeconfig makes the kubeconfig that Talos makes from the configuration.
func (s *Service) generateKubeconfig() ([]byte, error) {
	cfg := s.node.Config()
	if cfg == nil {
		return nil, status.Error(codes.FailedPrecondition, "machine configuration is not available")
	}

	authority, cluster := cfg.K8sAPIServerCAConfig(), cfg.K8sClusterConfig()
	if authority == nil || authority.IssuingCA() == nil || cluster == nil {
		return nil, status.Error(codes.FailedPrecondition, "Kubernetes is not configured")
	}

	ca, err := talosx509.NewCertificateAuthorityFromCertificateAndKey(authority.IssuingCA())
	if err != nil {
		return nil, fmt.Errorf("error getting Kubernetes CA: %w", err)
	}

	admin := cfg.Cluster().AdminKubeconfig()

	pair, err := talosx509.NewKeyPair(ca,
		talosx509.CommonName(admin.CommonName()),
		talosx509.Organization(admin.CertOrganization()),
		talosx509.NotBefore(time.Now().Add(-10*time.Second)),
		talosx509.NotAfter(time.Now().Add(admin.CertLifetime())),
		talosx509.KeyUsage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment),
		talosx509.ExtKeyUsage([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}),
	)
	if err != nil {
		return nil, fmt.Errorf("error generating Kubernetes client certificate: %w", err)
	}

	return kubeconfig.Admin(cluster.ClusterName(), cluster.ClusterEndpoint().String(), authority.IssuingCA().Crt, pair.CrtPEM, pair.KeyPEM), nil
}
