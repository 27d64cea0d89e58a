package apid

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/siderolabs/grpc-proxy/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// errCut ends a handler whose connection a fault has cut.
var errCut = errors.New("connection cut by a fault")

// executesHere reports whether this node's machined executes a request, instead of another node's.
func (b *boot) executesHere(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	if _, forwarded := md["proxyfrom"]; forwarded || b.maintenance {
		return true
	}

	node, one := md["node"]
	nodes, several := md["nodes"]

	if !one && !several {
		return true
	}

	if b.cfg.Forwards() {
		return false
	}

	return one && len(node) == 1 && b.own(node[0]) || several && len(nodes) == 1 && b.own(nodes[0])
}

// strike counts a request and applies the network faults to it.
func (b *boot) strike(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := stream.Context()
	method := info.FullMethod

	md, _ := metadata.FromIncomingContext(ctx)
	if _, forwarded := md["proxyfrom"]; !forwarded {
		b.cfg.Count(method, false)
	}

	if !b.executesHere(ctx) {
		return handler(srv, stream)
	}

	b.cfg.Count(method, true)

	if f, ok := b.cfg.Faults.Get(faults.Latency); ok {
		timer := time.NewTimer(f.Dur)
		defer timer.Stop()

		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	if f, ok := b.cfg.Faults.Get(faults.Loss); ok && b.cfg.Random() < f.P {
		b.cut(ctx)

		return errCut
	}

	if f, ok := b.cfg.Faults.TakeFor(faults.FailRPC, method); ok {
		return status.Error(f.Code, f.Message)
	}

	if _, ok := b.cfg.Faults.TakeFor(faults.DropRequest, method); ok {
		b.cut(ctx)

		return errCut
	}

	if f, ok := b.cfg.Faults.TakeFor(faults.HoldRequest, method); ok {
		if b.cfg.Faults.Hold(ctx, f); ctx.Err() != nil {
			return ctx.Err()
		}
	}

	if f, ok := b.cfg.Faults.TakeFor(faults.HoldAnswer, method); ok {
		hold := sync.OnceFunc(func() { b.cfg.Faults.Hold(ctx, f) })
		defer hold() // an error is an answer too

		return handler(srv, &held{ServerStream: stream, hold: hold})
	}

	if _, ok := b.cfg.Faults.TakeFor(faults.DropAnswer, method); ok {
		err := handler(srv, &mute{ServerStream: stream})
		b.cut(ctx)

		if err != nil {
			return err
		}

		return errCut
	}

	if f, ok := b.cfg.Faults.TakeFor(faults.CutStream, method); ok {
		return handler(srv, &limited{ServerStream: stream, left: f.N, cut: func() { b.cut(ctx) }})
	}

	return handler(srv, stream)
}

// cut closes the caller's connection.
func (b *boot) cut(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		b.gate.kill(p.LocalAddr, p.Addr)
	}
}

// mute drops the answer.
type mute struct {
	grpc.ServerStream
}

func (m *mute) SendMsg(any) error               { return nil }
func (m *mute) SendHeader(metadata.MD) error    { return nil }
func (m *mute) SetHeader(metadata.MD) error     { return nil }
func (m *mute) SetTrailer(trailing metadata.MD) {}

// held holds the answer.
type held struct {
	grpc.ServerStream

	hold func()
}

func (h *held) SendMsg(m any) error {
	h.hold()

	return h.ServerStream.SendMsg(m)
}

// limited passes a number of bytes and then cuts the connection.
type limited struct {
	grpc.ServerStream

	mu   sync.Mutex
	left int64
	cut  func()
}

func (l *limited) SendMsg(m any) error {
	data, err := proxy.Codec().Marshal(m)
	if err != nil {
		return err
	}

	l.mu.Lock()
	l.left -= int64(data.Len())
	over := l.left < 0
	l.mu.Unlock()
	data.Free()

	if over {
		// the bytes sent before must arrive: the transport writes in the background
		arrived := time.NewTimer(50 * time.Millisecond)
		defer arrived.Stop()

		select {
		case <-arrived.C:
		case <-l.Context().Done():
		}

		l.cut()

		return status.Error(codes.Unavailable, errCut.Error())
	}

	return l.ServerStream.SendMsg(m)
}
