// Package hostile is a control plane in the hands of an attacker: a gRPC proxy with a certificate of the cluster's
// authority. It passes every call on to the real endpoint, and lets a test rewrite, replace, hold or drop answers.
//
//	server := replay.Start(t, "talos-v1.13.8", nil)
//	h := hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
//	hostile.Rewrite(h, machine.MachineService_Hostname_FullMethodName, func(_ string, r *machine.HostnameResponse) { … })
//	clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig}, "fs", "ls", "/")
//
// In front of a lab, the authority is machine.ca of a control plane's configuration.
package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	taloscrypto "github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
)

// Endpoint is the proxy.
type Endpoint struct {
	Talosconfig string // A talosconfig file whose only endpoint is the proxy.
	Address     string // HOST:PORT of the proxy.

	upstream *grpc.ClientConn
	conns    sync.Map // The open connections by remote address.

	mu      sync.Mutex
	rewrite []func(node, method string, m proto.Message)
	serve   map[string]Handler
	ends    map[string]end
	calls   map[string]int
	spoil   func(string) string
}

// Handler answers a call in place of the cluster. node is the node that was asked for, empty for the endpoint itself.
// The handler sends protobuf messages, or a *Raw.
type Handler func(node string, stream grpc.ServerStream) error

// Start puts a proxy in front of the first endpoint of a talosconfig file until the test ends. Forwarded calls carry
// the certificate of that file.
func Start(t *testing.T, talosconfig string, authority *taloscrypto.PEMEncodedCertificateAndKey) *Endpoint {
	t.Helper()

	e := &Endpoint{
		Talosconfig: filepath.Join(t.TempDir(), "talosconfig"),
		serve:       map[string]Handler{}, ends: map[string]end{}, calls: map[string]int{},
	}

	cfg, err := clientconfig.Open(talosconfig)
	check(t, err)

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)

	e.Address = l.Addr().String()
	client := cfg.Contexts[cfg.Context]
	e.dial(t, client)

	client.Endpoints = []string{e.Address}
	check(t, cfg.Save(e.Talosconfig))

	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS(t, authority))), grpc.UnknownServiceHandler(e.handle),
		grpc.ForceServerCodec(codec{}), grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize))

	go func() { _ = srv.Serve(&listener{l, &e.conns}) }() // ends with Stop

	t.Cleanup(srv.Stop)

	return e
}

// Rewrite changes every message with which the real endpoint answers a method, given by its full name.
func Rewrite[M any, P interface {
	*M
	proto.Message
}](e *Endpoint, method string, fn func(node string, answer P)) {
	e.Answers(func(node, of string, m proto.Message) {
		if answer, ok := m.(P); ok && of == method {
			fn(node, answer)
		}
	})
}

// Answers changes every message with which the real endpoint answers any method. The answers of a method that is not
// linked into the test are a *Raw.
func (e *Endpoint) Answers(fn func(node, method string, m proto.Message)) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.rewrite = append(e.rewrite, fn)
}

// Resources changes every resource of a type (HostnameStatuses.net.talos.dev) that is read or listed.
func (e *Endpoint) Resources(typ string, fn func(node string, r *cosi.Resource)) {
	of := func(node string, r *cosi.Resource) {
		if r.GetMetadata().GetType() == typ {
			fn(node, r)
		}
	}

	Rewrite(e, cosi.State_Get_FullMethodName, func(node string, m *cosi.GetResponse) { of(node, m.GetResource()) })
	Rewrite(e, cosi.State_List_FullMethodName, func(node string, m *cosi.ListResponse) { of(node, m.GetResource()) })
	Rewrite(e, cosi.State_Watch_FullMethodName, func(node string, m *cosi.WatchResponse) {
		for _, event := range m.GetEvent() {
			of(node, event.GetResource())
		}
	})
}

// Serve answers a method in place of the cluster, which does not receive the call.
func (e *Endpoint) Serve(method string, h Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.serve[method] = h
}

// AdminKubeconfig is a kubeconfig as Talos writes one, for an API server that does not answer.
func AdminKubeconfig(t testing.TB) string {
	t.Helper()

	ca, err := taloscrypto.NewSelfSignedCertificateAuthority(taloscrypto.ECDSA(true))
	check(t, err)

	pair, err := taloscrypto.NewKeyPair(ca, taloscrypto.CommonName("admin"))
	check(t, err)

	encode := base64.StdEncoding.EncodeToString

	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: evil
  cluster:
    server: https://127.0.0.1:1
    certificate-authority-data: %s
contexts:
- name: admin@evil
  context:
    cluster: evil
    namespace: default
    user: admin@evil
current-context: admin@evil
users:
- name: admin@evil
  user:
    client-certificate-data: %s
    client-key-data: %s
`, encode(ca.CrtPEM), encode(pair.CrtPEM), encode(pair.KeyPEM))
}

// Kubeconfig serves a kubeconfig from every node, packed as Talos packs it.
func (e *Endpoint) Kubeconfig(t *testing.T, kubeconfig []byte) {
	t.Helper()

	var packed bytes.Buffer

	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	check(t, archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "kubeconfig", Mode: 0o600, Size: int64(len(kubeconfig))}))

	_, err := archive.Write(kubeconfig)
	check(t, errors.Join(err, archive.Close(), zipped.Close()))

	e.Serve(machine.MachineService_Kubeconfig_FullMethodName, func(_ string, stream grpc.ServerStream) error {
		return stream.SendMsg(&common.Data{Bytes: packed.Bytes()})
	})
}

// Endless answers a method that streams bytes with the same chunk without end.
func (e *Endpoint) Endless(method string, chunk []byte) {
	e.Serve(method, func(_ string, stream grpc.ServerStream) error {
		for {
			if err := stream.SendMsg(&common.Data{Bytes: chunk}); err != nil {
				return err
			}
		}
	})
}

// end is how an executed call ends.
type end int

const (
	answered end = iota
	held
	dropped
)

// Hold lets a method be executed and holds its answer until the caller disconnects.
func (e *Endpoint) Hold(method string) { e.setEnd(method, held) }

// Drop lets a method be executed and closes the caller's connection instead of answering.
func (e *Endpoint) Drop(method string) { e.setEnd(method, dropped) }

func (e *Endpoint) setEnd(method string, how end) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.ends[method] = how
}

// Calls is how often a method was called.
func (e *Endpoint) Calls(method string) int {
	e.mu.Lock()
	defer e.mu.Unlock()

	return e.calls[method]
}

func (e *Endpoint) dial(t *testing.T, client *clientconfig.Context) {
	t.Helper()

	pool := x509.NewCertPool()

	pem := make([][]byte, 3)
	for i, encoded := range []string{client.CA, client.Crt, client.Key} {
		var err error

		pem[i], err = base64.StdEncoding.DecodeString(encoded)
		check(t, err)
	}

	pool.AppendCertsFromPEM(pem[0])

	pair, err := tls.X509KeyPair(pem[1], pem[2])
	check(t, err)

	host := client.Endpoints[0]
	if _, _, err = net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, "50000")
	}

	e.upstream, err = grpc.NewClient("passthrough:///"+host,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}})),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize)))
	check(t, err)

	t.Cleanup(func() { _ = e.upstream.Close() })
}

func serverTLS(t *testing.T, authority *taloscrypto.PEMEncodedCertificateAndKey) *tls.Config {
	t.Helper()

	ca, err := taloscrypto.NewCertificateAuthorityFromCertificateAndKey(authority)
	check(t, err)

	pair, err := taloscrypto.NewKeyPair(ca, taloscrypto.CommonName("hostile"), taloscrypto.IPAddresses([]net.IP{net.IPv4(127, 0, 0, 1)}))
	check(t, err)

	return &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{*pair.Certificate}}
}

func check(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}
