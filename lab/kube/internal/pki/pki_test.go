package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/talosmate/talosmate/lab/kube/internal/pki"
)

// TestCertificatesServeAndIdentify lets a server and a client of one authority
// meet, and a client of another one be turned away.
func TestCertificatesServeAndIdentify(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewAuthority(dir, "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.Issue("server", pkix.Name{CommonName: "server"}, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())

	var user pkix.Name
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user = r.TLS.PeerCertificates[0].Subject
	}))
	pair, err := tls.LoadX509KeyPair(serving.CertFile, serving.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
	s.StartTLS()
	defer s.Close()

	get := func(a *pki.Authority) error {
		p, err := a.Issue("client", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		}}}
		defer c.CloseIdleConnections()
		resp, err := c.Get(s.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(ca); err != nil {
		t.Fatal(err)
	}
	if user.CommonName != "admin" || len(user.Organization) != 1 || user.Organization[0] != "system:masters" {
		t.Errorf("the server sees %s", user)
	}
	other, err := pki.NewAuthority(t.TempDir(), "ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := get(other); err == nil {
		t.Error("a client of another authority was let in")
	}
}
