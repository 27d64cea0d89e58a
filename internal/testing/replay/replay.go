// Package replay serves recordings of real Talos clusters over the real protocol: gRPC with mutual TLS, one recorded
// answer for each request, errors included. Requests without a recording are refused.
package replay

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	taloscrypto "github.com/siderolabs/crypto/x509"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Recorded nodes: the address and the folder that holds its answers.
func folders() map[string]string {
	return map[string]string{
		"10.5.0.2": "cp-1", "10.5.0.3": "cp-2", "10.5.0.5": "worker-1",
		"10.6.0.2": "cp-1", "10.6.0.3": "cp-2", "10.6.0.5": "worker-1", // talos-v1.14.0-rc.1
	}
}

// Server replays one recorded cluster.
type Server struct {
	Config string // The machine configuration of every node, which is not recorded; to be set before the first request.

	dir      string
	variants map[string]string
	creds    *credentialsFiles
	address  string
	requests atomic.Int64
}

// Start serves the recordings of a version ("talos-v1.13.8") until the test ends. variants choose a
// recording's variant per method: {"MachineService.Logs": "etcd"}.
func Start(t *testing.T, version string, variants map[string]string) *Server {
	t.Helper()

	s := &Server{dir: filepath.Join(recordings(t), version), variants: variants, creds: newCredentials(t)}

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s.address = l.Addr().String()

	srv := grpc.NewServer(append(s.counting(), grpc.Creds(credentials.NewTLS(s.creds.server)), grpc.UnknownServiceHandler(s.handle))...)
	cosi.RegisterStateServer(srv, &stateServer{Server: s})

	go func() { _ = srv.Serve(l) }() // ends with Stop

	t.Cleanup(srv.Stop)

	return s
}

// Talosconfig writes a talosconfig for the server with the given roles and returns its path.
func (s *Server) Talosconfig(t *testing.T, roles ...string) string {
	t.Helper()

	return s.creds.talosconfig(t, s.address, roles)
}

// Authority is the certificate authority of the recorded cluster.
func (s *Server) Authority(t *testing.T) *taloscrypto.PEMEncodedCertificateAndKey {
	t.Helper()

	return s.creds.authority(t)
}

func recordings(t *testing.T) string {
	t.Helper()

	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}

	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "lab", "recordings")
		}
	}

	t.Fatal("no go.mod above the test")

	return ""
}

type recording struct {
	Message   string            `json:"message"`
	Responses []json.RawMessage `json:"responses"`
	Error     *struct {
		Code    string `json:"grpc_code"`
		Message string `json:"message"`
	} `json:"error"`
}

// folder finds the node that a request is for, as apid does: by the metadata key `node`, else the endpoint.
func (s *Server) folder(md metadata.MD) (string, error) {
	node := "10.5.0.2"
	if v := md.Get("node"); len(v) > 0 {
		node = v[0]
	}

	folder, ok := folders()[node]
	if !ok {
		return "", status.Errorf(codes.Unavailable, "connection error: desc = \"transport: Error while dialing: dial tcp %s:50000: connect: no route to host\"", node)
	}

	dir := filepath.Join(s.dir, folder)
	if _, err := os.Stat(dir); err != nil {
		return "", status.Errorf(codes.Unavailable, "connection error: desc = \"transport: Error while dialing: dial tcp %s:50000: connect: no route to host\"", node)
	}

	return dir, nil
}

func (s *Server) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	parts := strings.Split(strings.TrimPrefix(full, "/"), "/")
	method := parts[0][strings.LastIndex(parts[0], ".")+1:] + "." + parts[1]

	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}

	md, _ := metadata.FromIncomingContext(stream.Context())

	dir, err := s.folder(md)
	if err != nil {
		return err
	}

	if v := s.variants[method]; v != "" {
		method += "." + v
	}

	raw, err := os.ReadFile(filepath.Join(dir, method+".json"))
	if err != nil {
		// Requests that change something were recorded once for the cluster.
		raw, err = os.ReadFile(filepath.Join(s.dir, "acts", method+".json"))
	}

	if err != nil {
		return status.Errorf(codes.Unimplemented, "no recording of %s", method)
	}

	var r recording
	if err = json.Unmarshal(raw, &r); err != nil {
		return status.Errorf(codes.Internal, "recording %s: %v", method, err)
	}

	return s.send(stream, r)
}

func (s *Server) send(stream grpc.ServerStream, r recording) error {
	for _, raw := range r.Responses {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(r.Message))
		if err != nil {
			return status.Errorf(codes.Internal, "recorded message %q: %v", r.Message, err)
		}

		msg := kind.New().Interface()
		if err = (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, msg); err != nil {
			return status.Errorf(codes.Internal, "recorded message %q: %v", r.Message, err)
		}

		if err = stream.SendMsg(msg); err != nil {
			return err
		}
	}

	if r.Error == nil {
		return nil
	}

	var code codes.Code
	if err := code.UnmarshalJSON([]byte(fmt.Sprintf("%q", upperSnake(r.Error.Code)))); err != nil {
		return status.Errorf(codes.Internal, "recorded code %q: %v", r.Error.Code, err)
	}

	return status.Error(code, r.Error.Message)
}

// upperSnake turns DeadlineExceeded into DEADLINE_EXCEEDED, the form that codes.Code reads.
func upperSnake(name string) string {
	var b strings.Builder

	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}

		b.WriteRune(r)
	}

	return strings.ToUpper(b.String())
}
