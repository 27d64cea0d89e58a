// Package pki makes the certificates and talosconfig files of one simulated
// cluster with machinery's own generators.
package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	talosx509 "github.com/siderolabs/crypto/x509"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

// clientTTL is the lifetime of the lab's talosconfig files.
const clientTTL = 365 * 24 * time.Hour

// PKI holds the secrets of one cluster.
type PKI struct {
	Bundle *secrets.Bundle
}

// New makes new secrets.
func New() (*PKI, error) {
	// backdated, so that a certificate that expired yesterday still has a valid issuer
	bundle, err := secrets.NewBundle(secrets.NewFixedClock(time.Now().Add(-30*24*time.Hour)), config.TalosVersionCurrent)
	if err != nil {
		return nil, fmt.Errorf("generate cluster secrets: %w", err)
	}

	return &PKI{Bundle: bundle}, nil
}

// FromConfig returns the secrets in a machine configuration; nil when it has no key of the Talos CA, as a worker's does
// not.
func FromConfig(cfg config.Provider) (*PKI, error) {
	if cfg == nil || cfg.Machine() == nil || cfg.Cluster() == nil {
		return nil, nil
	}

	if ca := cfg.Machine().Security().IssuingCA(); ca == nil || len(ca.Key) == 0 {
		return nil, nil
	}

	bundle, err := secrets.NewBundleFromConfig(secrets.NewFixedClock(time.Now()), cfg)
	if err != nil {
		return nil, fmt.Errorf("read the configuration's secrets: %w", err)
	}

	return &PKI{Bundle: bundle}, nil
}

// Talosconfig makes a client configuration for the roles with the context name "lab". A negative ttl makes an expired
// certificate.
func (p *PKI) Talosconfig(context string, endpoints []string, roles role.Set, ttl time.Duration) (*clientconfig.Config, error) {
	now := time.Now()
	if ttl < 0 {
		// it was valid and has expired
		now, ttl = now.Add(2*ttl), -ttl
	}

	cert, err := secrets.NewAdminCertificateAndKey(now, p.Bundle.Certs.OS, roles, ttl)
	if err != nil {
		return nil, fmt.Errorf("generate client certificate: %w", err)
	}

	return clientconfig.NewConfig(context, endpoints, p.Bundle.Certs.OS.Crt, cert), nil
}

// DefaultTTL is the lifetime of the lab's own client certificates.
func DefaultTTL() time.Duration { return clientTTL }

// Node holds the certificates of one node's apid.
type Node struct {
	Server tls.Certificate
	// Client is used to connect to other nodes' apid, with the impersonator role.
	Client tls.Certificate
	Roots  *x509.CertPool
}

// NodeCertificates signs a server certificate for the node's addresses and, for control planes, the client certificate
// with which apid forwards requests.
func (p *PKI) NodeCertificates(hostname string, addresses ...net.IP) (*Node, error) {
	ca, err := talosx509.NewCertificateAuthorityFromCertificateAndKey(p.Bundle.Certs.OS)
	if err != nil {
		return nil, fmt.Errorf("load Talos CA: %w", err)
	}

	server, err := talosx509.NewKeyPair(ca,
		talosx509.IPAddresses(addresses),
		talosx509.DNSNames([]string{hostname}),
		talosx509.CommonName(hostname),
		talosx509.NotAfter(time.Now().Add(constants.TalosAPIDefaultCertificateValidityDuration)),
		talosx509.KeyUsage(x509.KeyUsageDigitalSignature),
		talosx509.ExtKeyUsage([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}),
	)
	if err != nil {
		return nil, fmt.Errorf("sign server certificate of %s: %w", hostname, err)
	}

	client, err := talosx509.NewKeyPair(ca,
		talosx509.CommonName(hostname),
		talosx509.Organization(string(role.Impersonator)),
		talosx509.NotAfter(time.Now().Add(constants.TalosAPIDefaultCertificateValidityDuration)),
		talosx509.KeyUsage(x509.KeyUsageDigitalSignature),
		talosx509.ExtKeyUsage([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}),
	)
	if err != nil {
		return nil, fmt.Errorf("sign apid client certificate of %s: %w", hostname, err)
	}

	return &Node{Server: *server.Certificate, Client: *client.Certificate, Roots: p.Roots()}, nil
}

// Roots is the pool with the cluster's Talos CA.
func (p *PKI) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.Bundle.Certs.OS.Crt)

	return pool
}

// EtcdCertificate signs one member's certificate, for server, peer and client.
func (p *PKI) EtcdCertificate(hostname string, addresses ...net.IP) (*talosx509.PEMEncodedCertificateAndKey, error) {
	ca, err := talosx509.NewCertificateAuthorityFromCertificateAndKey(p.Bundle.Certs.Etcd)
	if err != nil {
		return nil, fmt.Errorf("load etcd CA: %w", err)
	}

	pair, err := talosx509.NewKeyPair(ca,
		talosx509.IPAddresses(addresses),
		talosx509.DNSNames([]string{hostname, "localhost"}),
		talosx509.CommonName(hostname),
		talosx509.NotAfter(time.Now().Add(clientTTL)),
		talosx509.KeyUsage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment),
		talosx509.ExtKeyUsage([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}),
	)
	if err != nil {
		return nil, fmt.Errorf("sign etcd certificate of %s: %w", hostname, err)
	}

	return talosx509.NewCertificateAndKeyFromKeyPair(pair), nil
}
