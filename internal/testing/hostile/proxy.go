package hostile

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Raw is an encoded message that is sent unchanged, valid or not.
type Raw struct {
	emptypb.Empty

	Bytes []byte
}

// codec passes encoded messages through; handlers may also send decoded ones.
type codec struct{}

// Name implements encoding.Codec.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (codec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.(*Raw); ok {
		return raw.Bytes, nil
	}

	return proto.Marshal(v.(proto.Message)) //nolint:forcetypeassert // gRPC passes no other type
}

// Unmarshal implements encoding.Codec.
func (codec) Unmarshal(data []byte, v any) error {
	if raw, ok := v.(*Raw); ok {
		raw.Bytes = append([]byte(nil), data...)

		return nil
	}

	return proto.Unmarshal(data, v.(proto.Message)) //nolint:forcetypeassert // gRPC passes no other type
}

func (e *Endpoint) handle(_ any, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	md, _ := metadata.FromIncomingContext(down.Context())
	node := strings.Join(md.Get("node"), ",")

	e.mu.Lock()
	e.calls[method]++
	serve, how := e.serve[method], e.ends[method]
	e.mu.Unlock()

	if serve != nil {
		return serve(node, down)
	}

	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(down.Context(), md))
	defer cancel()

	up, err := e.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}

	go forward(down, up)

	for {
		answer := &Raw{}
		if err = up.RecvMsg(answer); err != nil {
			break
		}

		if how != answered {
			continue
		}

		if err = down.SendMsg(e.rewritten(node, method, answer)); err != nil {
			return err
		}
	}

	switch how {
	case held:
		<-down.Context().Done()
	case dropped:
		if from, ok := peer.FromContext(down.Context()); ok {
			if conn, ok := e.conns.Load(from.Addr.String()); ok {
				_ = conn.(net.Conn).Close() //nolint:forcetypeassert // the listener stores nothing else
			}
		}
	case answered:
	}

	if errors.Is(err, io.EOF) {
		return nil
	}

	return e.spoiled(err)
}

// forward forwards the caller's messages until there are no more.
func forward(down grpc.ServerStream, up grpc.ClientStream) {
	for {
		var m Raw
		if down.RecvMsg(&m) != nil {
			_ = up.CloseSend() // the answer reports the error

			return
		}

		if up.SendMsg(&m) != nil {
			return
		}
	}
}

// rewritten applies the test's changes to an answer.
func (e *Endpoint) rewritten(node, method string, answer *Raw) proto.Message {
	e.mu.Lock()
	rewrite := slices.Clone(e.rewrite)
	e.mu.Unlock()

	if len(rewrite) == 0 {
		return answer
	}

	var m proto.Message = answer

	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	if d, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err == nil {
		if kind, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Output().FullName()); err == nil { //nolint:forcetypeassert // it has a method's name
			m = kind.New().Interface()
			if proto.Unmarshal(answer.Bytes, m) != nil {
				m = answer
			}
		}
	}

	for _, fn := range rewrite {
		fn(node, method, m)
	}

	return m
}

// listener remembers its open connections.
type listener struct {
	net.Listener

	conns *sync.Map
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.conns.Store(conn.RemoteAddr().String(), conn)
	}

	return conn, err
}
