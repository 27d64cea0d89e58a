package replay

import (
	"context"

	"google.golang.org/grpc"
)

// Requests is how many requests have arrived.
func (s *Server) Requests() int64 { return s.requests.Load() }

func (s *Server) counting() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			s.requests.Add(1)

			return next(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			s.requests.Add(1)

			return next(srv, stream)
		}),
	}
}
