package replay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	taloscrypto "github.com/siderolabs/crypto/x509"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
)

// credentialsFiles is a certificate authority that lives as long as the test.
type credentialsFiles struct {
	server *tls.Config
	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
}

func newCredentials(t *testing.T) *credentialsFiles {
	t.Helper()

	c := &credentialsFiles{}
	template := certificate(pkix.Name{CommonName: "replay"})
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign

	var der []byte

	der, c.caKey = c.sign(t, template, template, nil)

	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	c.ca = ca

	leaf := certificate(pkix.Name{CommonName: "node"})
	leaf.IPAddresses = []net.IP{net.ParseIP("127.0.0.1")}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

	serverDER, serverKey := c.sign(t, leaf, c.ca, c.caKey)

	pool := x509.NewCertPool()
	pool.AddCert(c.ca)

	c.server = &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{serverDER}, PrivateKey: serverKey}},
	}

	return c
}

func (c *credentialsFiles) talosconfig(t *testing.T, endpoint string, roles []string) string {
	t.Helper()

	leaf := certificate(pkix.Name{Organization: roles})
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}

	der, key := c.sign(t, leaf, c.ca, c.caKey)

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	pair := &taloscrypto.PEMEncodedCertificateAndKey{
		Crt: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}

	path := filepath.Join(t.TempDir(), "talosconfig")
	cfg := clientconfig.NewConfig("recorded", []string{endpoint}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw}), pair)

	if err = cfg.Save(path); err != nil {
		t.Fatal(err)
	}

	return path
}

// authority is the certificate authority itself.
func (c *credentialsFiles) authority(t *testing.T) *taloscrypto.PEMEncodedCertificateAndKey {
	t.Helper()

	key, err := x509.MarshalECPrivateKey(c.caKey)
	if err != nil {
		t.Fatal(err)
	}

	return &taloscrypto.PEMEncodedCertificateAndKey{
		Crt: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
	}
}

func (c *credentialsFiles) sign(t *testing.T, leaf, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	if parentKey == nil {
		parentKey = key
	}

	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}

	return der, key
}

func certificate(subject pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
}
