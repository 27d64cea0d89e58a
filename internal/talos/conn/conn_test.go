package conn

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
)

// station is an endpoint or a node: it counts what it is asked and answers with fail, or well.
type station struct {
	machine.UnimplementedMachineServiceServer

	asked atomic.Int32
	fail  error
}

func (s *station) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	s.asked.Add(1)

	return &machine.VersionResponse{Messages: []*machine.Version{{Version: &machine.VersionInfo{Tag: "v1.13.9"}}}}, s.fail
}

func (s *station) Logs(r *machine.LogsRequest, stream grpc.ServerStreamingServer[common.Data]) error {
	s.asked.Add(1)

	if s.fail != nil {
		return s.fail
	}

	return stream.Send(&common.Data{Bytes: []byte(r.GetId())})
}

// An endpoint backs off from a node that was down. A request that it could not deliver is sent to the node itself,
// once; a request that the node may have received is not.
func TestDetour(t *testing.T) {
	t.Parallel()

	// The error of a node whose etcd is down.
	const etcdGone = `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:2379: connect: connection refused"`

	const refused = `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:50000: connect: connection refused"`

	// The error of an endpoint that asked a machine with another cluster's certificate, or with that of maintenance mode.
	const foreign = `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`

	for name, c := range map[string]struct {
		endpoint, node error
		asked          int32 // How often the node is.
		want           string
		endpoints      []string // The context's, all of them down.
	}{
		"the endpoint delivers":                     {asked: 0},
		"the endpoint cannot dial":                  {endpoint: status.Error(codes.Unavailable, refused), asked: 1},
		"the node refuses":                          {endpoint: status.Error(codes.Unavailable, refused), node: status.Error(codes.PermissionDenied, "no"), asked: 1, want: "no"},
		"nor can we":                                {endpoint: status.Error(codes.Unavailable, refused), node: status.Error(codes.Unavailable, "Error while dialing us"), asked: 1, want: "dial tcp 10.0.0.1:50000: connect: connection refused"},
		"no endpoint, the node is one":              {endpoints: []string{"10.0.0.2", "10.0.0.1"}, asked: 1},
		"no endpoint, the node is none":             {endpoints: []string{"10.0.0.2"}, want: "connection refused"},
		"the node cannot reach its etcd":            {endpoint: status.Error(codes.Unavailable, etcdGone), want: "talosmate service list -n n1"},
		"the endpoint tried before the node joined": {endpoint: status.Error(codes.Unavailable, foreign), asked: 1},
		"the node is in maintenance mode":           {endpoint: status.Error(codes.Unavailable, foreign), node: status.Error(codes.Unavailable, "Error while dialing us"), asked: 1, want: "it is in maintenance mode (try --insecure)"},
		"the connection broke after a try":          {endpoint: status.Error(codes.Unavailable, "error reading from server: EOF"), want: "error reading from server: EOF"},
	} {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()

				endpoint, node := &station{fail: c.endpoint}, &station{fail: c.node}
				direct := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, node) })
				via := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, endpoint) })

				if len(c.endpoints) > 0 {
					via.Pool.Options.Endpoints = c.endpoints
					via.ways = []*way{newWay(closed(t))}
				}

				via.Pool.conns["10.0.0.1"] = direct.ways[0]
				cc := direct.ways[0].cc
				cc.Connect()

				for state := cc.GetState(); state != connectivity.Ready; state = cc.GetState() {
					if !cc.WaitForStateChange(t.Context(), state) {
						t.Fatal("the node cannot be reached")
					}
				}

				var (
					got string
					err error
				)

				if kind == "unary" {
					var v *machine.VersionResponse

					v, err = machine.NewMachineServiceClient(via).Version(t.Context(), &emptypb.Empty{})
					err = via.Fail("read the version", err)

					for _, m := range v.GetMessages() {
						got = m.GetVersion().GetTag()
					}
				} else {
					err = Pull(t.Context(), via, "read the logs", 0, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
						return machine.NewMachineServiceClient(via).Logs(ctx, &machine.LogsRequest{Id: "v1.13.9"})
					}, func(d *common.Data) error {
						got += string(d.GetBytes())

						return nil
					})
				}

				if c.want == "" && (err != nil || got != "v1.13.9") || c.want != "" && (err == nil || !strings.Contains(said(err), c.want)) {
					t.Errorf("got %q, %v, want an error with %q", got, err, c.want)
				}

				if endpoint.asked.Load() != 1 && len(c.endpoints) == 0 || node.asked.Load() != c.asked {
					t.Errorf("asked the endpoint %d times and the node %d times, want 1 and %d", endpoint.asked.Load(), node.asked.Load(), c.asked)
				}
			})
		}
	}
}

// said is an error with its hints.
func said(err error) string {
	return strings.Join(append([]string{err.Error()}, errs.Hints(err)...), "\n")
}

// closed is a connection that nobody takes.
func closed(t *testing.T) *grpc.ClientConn {
	t.Helper()

	cc, err := grpc.NewClient("passthrough:///nobody", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = cc.Close() })

	return cc
}
