// Package pki makes the keys and certificates of one bed. They are new for every bed.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime is much longer than any test run, and short because the admin certificate cannot be revoked.
const lifetime = 30 * 24 * time.Hour

// Authority signs certificates and keeps them in a directory.
type Authority struct {
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

// Pair is a certificate and its key, as PEM and as files.
type Pair struct {
	CertPEM, KeyPEM   []byte
	CertFile, KeyFile string
}

// NewAuthority makes a certificate authority and writes name.crt into dir. Its key stays in memory: nothing is signed
// after the start.
func NewAuthority(dir, name string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	a := &Authority{dir: dir, name: name, key: key, now: now}
	template, err := a.template(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	if err := os.WriteFile(a.File(), a.PEM(), 0o600); err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	return a, nil
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.cert.Raw) }

// File holds the authority's certificate.
func (a *Authority) File() string { return filepath.Join(a.dir, a.name+".crt") }

// Issue makes a certificate for a server on the given names and addresses, for
// a client (whose user and groups are the subject's common name and
// organizations), or for both, and writes file.crt and file.key.
func (a *Authority) Issue(file string, subject pkix.Name, dnsNames []string, ips []net.IP) (Pair, error) {
	fail := func(err error) (Pair, error) { return Pair{}, fmt.Errorf("certificate %s: %w", file, err) }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	template, err := a.template(subject)
	if err != nil {
		return fail(err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(dnsNames)+len(ips) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	template.DNSNames = dnsNames
	template.IPAddresses = ips
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return fail(err)
	}
	p := Pair{CertPEM: encode("CERTIFICATE", der), CertFile: filepath.Join(a.dir, file+".crt")}
	if err := os.WriteFile(p.CertFile, p.CertPEM, 0o600); err != nil {
		return fail(err)
	}
	p.KeyFile, p.KeyPEM, err = writeKey(a.dir, file, key)
	if err != nil {
		return fail(err)
	}
	return p, nil
}

// SigningKey makes a key without a certificate, for signing service account tokens, and returns its file.
func SigningKey(dir, name string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("key %s: %w", name, err)
	}
	file, _, err := writeKey(dir, name, key)
	return file, err
}

func (a *Authority) template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    a.now.Add(-time.Hour), // clocks in containers differ
		NotAfter:     a.now.Add(lifetime),
	}, nil
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) (file string, text []byte, err error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", nil, fmt.Errorf("key %s: %w", name, err)
	}
	file = filepath.Join(dir, name+".key")
	text = encode("EC PRIVATE KEY", der)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", nil, fmt.Errorf("key %s: %w", name, err)
	}
	return file, text, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
