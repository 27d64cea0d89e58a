// Package machined serves the Talos API of one simulated node: every method translates between the protocol and the
// node's state machine, or answers from the recordings where nothing on the node changes.
package machined

import (
	"context"
	"io"
	"slices"
	"sync/atomic"

	cosiv1alpha1 "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/inspect"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	node "github.com/talosmate/talosmate/lab/internal/machine"
	"github.com/talosmate/talosmate/lab/internal/pki"
	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// chunkSize is the chunk size of Talos's byte streams.
const chunkSize = 32 << 10

// Service is the API of one node.
type Service struct {
	cluster.UnimplementedClusterServiceServer
	machine.UnimplementedMachineServiceServer

	node *node.Node
	pki  *pki.PKI
	lock chan struct{} // LifecycleService runs one at a time
	conf chan struct{} // ApplyConfiguration runs one at a time
	// rebooting is set once a configuration was applied with a reboot; each boot has a service of its own
	rebooting atomic.Bool
}

// New makes the API of a node.
func New(n *node.Node, keys *pki.PKI) *Service {
	return &Service{node: n, pki: keys, lock: make(chan struct{}, 1), conf: make(chan struct{}, 1)}
}

// NewServer makes machined's gRPC server, which trusts the roles that apid sends it.
func (s *Service) NewServer(opts ...grpc.ServerOption) *grpc.Server {
	opts = append(opts,
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := s.authorize(ctx, info.FullMethod)
			if err != nil {
				return nil, err
			}

			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, err := s.authorize(stream.Context(), info.FullMethod)
			if err != nil {
				return err
			}

			return handler(srv, &streamWithContext{ServerStream: stream, ctx: ctx})
		}),
	)

	srv := grpc.NewServer(opts...)
	machine.RegisterMachineServiceServer(srv, s)
	cluster.RegisterClusterServiceServer(srv, s)
	machine.RegisterImageServiceServer(srv, &imageService{Service: s})
	machine.RegisterLifecycleServiceServer(srv, &lifecycleService{Service: s})
	machine.RegisterLVMServiceServer(srv, &lvmService{Service: s})
	machine.RegisterMDServiceServer(srv, &mdService{Service: s})
	storage.RegisterStorageServiceServer(srv, &storageService{Service: s})
	timeapi.RegisterTimeServiceServer(srv, &timeService{Service: s})
	inspect.RegisterInspectServiceServer(srv, inspect.UnimplementedInspectServiceServer{})
	cosiv1alpha1.RegisterStateServer(srv, &stateService{Service: s})

	return srv
}

func (s *Service) authorize(ctx context.Context, method string) (context.Context, error) {
	service, _ := split(method)
	if !s.node.HasLifecycleAPI() && is113(method) || !s.node.AtLeast(14) && slices.Contains([]string{"machine.LVMService", "machine.MDService"}, service) {
		// an older machined does not have the service at all
		return nil, status.Errorf(codes.Unimplemented, "unknown service %s", service)
	}

	roles, _ := rbac.FromMetadata(ctx)
	ctx = rbac.WithRoles(ctx, roles)

	return ctx, rbac.Authorize(ctx, method)
}

// is113 reports whether a method is new in Talos 1.13.
func is113(method string) bool {
	service, _ := split(method)

	return service == "machine.ImageService" || service == "machine.LifecycleService" || service == "machine.DebugService"
}

func split(method string) (service, name string) {
	for i := len(method) - 1; i > 0; i-- {
		if method[i] == '/' {
			return method[1:i], method[i+1:]
		}
	}

	return method, ""
}

type streamWithContext struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a wrapped stream needs it
}

func (s *streamWithContext) Context() context.Context { return s.ctx }

// controlPlaneOnly is Talos's refusal of etcd and cluster calls on workers.
func (s *Service) controlPlaneOnly(what string) error {
	if s.node.IsControlPlane() {
		return nil
	}

	return status.Errorf(codes.Unimplemented, "%s is only available on control plane nodes", what)
}

// sendBytes streams a reader in Talos's chunks.
func sendBytes(r io.Reader, send func(*common.Data) error) error {
	buf := make([]byte, chunkSize)

	for {
		n, err := r.Read(buf)
		if n > 0 {
			if sendErr := send(&common.Data{Bytes: append([]byte(nil), buf[:n]...)}); sendErr != nil {
				return sendErr
			}
		}

		if err == io.EOF {
			return nil
		}

		if err != nil {
			return err
		}
	}
}

// stateService is the COSI API over the resources of the current boot.
type stateService struct {
	cosiv1alpha1.UnimplementedStateServer
	*Service
}

func (s *stateService) current(ctx context.Context) (*server.State, error) {
	st, err := s.node.State(ctx)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	return server.NewState(st.Guarded()), nil
}

func (s *stateService) Get(ctx context.Context, req *cosiv1alpha1.GetRequest) (*cosiv1alpha1.GetResponse, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}

	return st.Get(ctx, req)
}

func (s *stateService) List(req *cosiv1alpha1.ListRequest, srv cosiv1alpha1.State_ListServer) error {
	st, err := s.current(srv.Context())
	if err != nil {
		return err
	}

	return st.List(req, srv)
}

func (s *stateService) Create(ctx context.Context, req *cosiv1alpha1.CreateRequest) (*cosiv1alpha1.CreateResponse, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}

	return st.Create(ctx, req)
}

func (s *stateService) Update(ctx context.Context, req *cosiv1alpha1.UpdateRequest) (*cosiv1alpha1.UpdateResponse, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}

	return st.Update(ctx, req)
}

func (s *stateService) Destroy(ctx context.Context, req *cosiv1alpha1.DestroyRequest) (*cosiv1alpha1.DestroyResponse, error) {
	st, err := s.current(ctx)
	if err != nil {
		return nil, err
	}

	return st.Destroy(ctx, req)
}

func (s *stateService) Watch(req *cosiv1alpha1.WatchRequest, srv cosiv1alpha1.State_WatchServer) error {
	st, err := s.current(srv.Context())
	if err != nil {
		return err
	}

	return st.Watch(req, srv)
}
