package talos

import (
	"context"
	"strings"
	"testing"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// endless sends a message again and again; quiet sends it once and then nothing more.
func endless[M any](quiet bool, s grpc.ServerStreamingServer[M], m *M) error {
	for {
		if err := s.Send(m); err != nil {
			return err
		}

		if quiet {
			<-s.Context().Done()

			return s.Context().Err()
		}
	}
}

// endlessMachine is a node whose lists never end, and whose bytes never come.
type endlessMachine struct {
	machine.UnimplementedMachineServiceServer

	quiet bool
}

func (e endlessMachine) List(_ *machine.ListRequest, s grpc.ServerStreamingServer[machine.FileInfo]) error {
	return endless(e.quiet, s, &machine.FileInfo{Name: strings.Repeat("x", 100)})
}

func (e endlessMachine) DiskUsage(_ *machine.DiskUsageRequest, s grpc.ServerStreamingServer[machine.DiskUsageInfo]) error {
	return endless(e.quiet, s, &machine.DiskUsageInfo{Name: strings.Repeat("x", 100)})
}

func (endlessMachine) Read(_ *machine.ReadRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{})
}

func (endlessMachine) Copy(_ *machine.CopyRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{Metadata: &common.Metadata{Hostname: "n1"}})
}

func (endlessMachine) EtcdSnapshot(_ *machine.EtcdSnapshotRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{})
}

func (endlessMachine) Kubeconfig(_ *emptypb.Empty, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{})
}

func (endlessMachine) Logs(_ *machine.LogsRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{})
}

func (endlessMachine) Dmesg(_ *machine.DmesgRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return endless(false, s, &common.Data{})
}

type endlessImages struct {
	machine.UnimplementedImageServiceServer

	quiet bool
}

func (e endlessImages) List(_ *machine.ImageServiceListRequest, s grpc.ServerStreamingServer[machine.ImageServiceListResponse]) error {
	return endless(e.quiet, s, &machine.ImageServiceListResponse{Name: strings.Repeat("x", 100)})
}

type endlessState struct {
	cosi.UnimplementedStateServer

	quiet bool
}

func (e endlessState) List(_ *cosi.ListRequest, s grpc.ServerStreamingServer[cosi.ListResponse]) error {
	return endless(e.quiet, s, &cosi.ListResponse{Resource: &cosi.Resource{
		Metadata: &cosi.Metadata{Id: strings.Repeat("x", 100)}, Spec: &cosi.Spec{YamlSpec: "a: 1"},
	}})
}

func endlessNode(t *testing.T, quiet bool) *Node {
	t.Helper()

	return fakeNode(t, func(s *grpc.Server) {
		machine.RegisterMachineServiceServer(s, endlessMachine{quiet: quiet})
		machine.RegisterImageServiceServer(s, endlessImages{quiet: quiet})
		cosi.RegisterStateServer(s, endlessState{quiet: quiet})
	})
}

// listCalls are the calls that keep what a node streams, each with how many rows it kept.
func listCalls() map[string]func(context.Context, *Node) (int, error) {
	return map[string]func(context.Context, *Node) (int, error){
		"files": func(ctx context.Context, n *Node) (int, error) {
			l, err := n.ListFiles(ctx, ListRequest{Path: "/"})

			return len(l), err
		},
		"usage": func(ctx context.Context, n *Node) (int, error) {
			l, err := n.DiskUsage(ctx, "/", UsageOptions{})

			return len(l), err
		},
		"images": func(ctx context.Context, n *Node) (int, error) {
			l, err := n.Images(ctx, NamespaceCRI)

			return len(l), err
		},
		"resources": func(ctx context.Context, n *Node) (int, error) {
			l, err := n.Resources(ctx, "ns", "Things.example.dev")

			return len(l), err
		},
	}
}

func TestAnEndlessListIsCut(t *testing.T) {
	t.Parallel()

	for name, list := range listCalls() {
		for bound, want := range map[string]int{"more than 50 rows": 50, "more than 1 MiB": 1 << 20 / 300} {
			t.Run(name+": "+bound, func(t *testing.T) {
				t.Parallel()

				n := endlessNode(t, false)
				n.Pool.Options.MaxRows, n.Pool.Options.MaxBytes = 100_000, 1<<20

				if want == 50 {
					n.Pool.Options.MaxRows = 50
				}

				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()

				kept, err := list(ctx, n)
				if kept < want || (want == 50 && kept > 50) || !conn.IsCut(err) || conn.KindOf(err) != errs.KindTooMuch || !strings.Contains(err.Error(), "on 10.0.0.1 (n1): the node sent "+bound) {
					t.Errorf("%d rows, %v", kept, err)
				}
			})
		}
	}
}

func TestAListThatStopsKeepsItsBeginning(t *testing.T) {
	t.Parallel()

	for name, list := range listCalls() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			n := endlessNode(t, true)
			n.Pool.Options.Timeout = 2 * time.Second // enough for the first row

			kept, err := list(t.Context(), n)
			if kept != 1 || !conn.IsCut(err) || conn.KindOf(err) != errs.KindTimeout || !strings.Contains(err.Error(), "no data came for 2s") {
				t.Errorf("%d rows, %v", kept, err)
			}
		})
	}
}

// TestEmptyMessagesAreSilence: empty messages do not keep a stream alive.
func TestEmptyMessagesAreSilence(t *testing.T) {
	t.Parallel()

	ignore := func([]byte) error { return nil }

	for name, read := range map[string]func(context.Context, *Node) error{
		"read":     func(ctx context.Context, n *Node) error { return n.StreamFile(ctx, "/x", ignore) },
		"copy":     func(ctx context.Context, n *Node) error { return n.CopyOut(ctx, "/x", ignore) },
		"snapshot": func(ctx context.Context, n *Node) error { return n.EtcdSnapshot(ctx, ignore) },
		"logs": func(ctx context.Context, n *Node) error {
			return n.Logs(ctx, LogRequest{ID: "x", Idle: n.Pool.Idle()}, ignore)
		},
		"dmesg": func(ctx context.Context, n *Node) error { return n.Dmesg(ctx, false, n.Pool.Idle(), ignore) },
		"kubeconfig": func(ctx context.Context, n *Node) error {
			_, err := n.Kubeconfig(ctx)

			return err
		},
		"part of a file": func(ctx context.Context, n *Node) error {
			_, err := n.ReadFile(ctx, "/x", 10)

			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			n := endlessNode(t, false)
			n.Pool.Options.Timeout = 200 * time.Millisecond

			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()

			// Silence of a node that never answered is a node that cannot be reached.
			if err := n.Logs(ctx, LogRequest{ID: "x"}, func([]byte) error { return conn.ErrStop }); err != nil {
				t.Fatal(err)
			}

			if err := read(ctx, n); conn.KindOf(err) != errs.KindTimeout || !strings.Contains(err.Error(), "no data came for 200ms") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnInstallersLineIsBounded(t *testing.T) {
	t.Parallel()

	longest, count := 0, 0
	b := &lineBuffer{emit: func(line string) { longest, count = max(longest, len(line)), count+1 }}

	for range 100 {
		b.write(strings.Repeat("x", maxLine/10))
	}

	b.write("\nshort\n")
	b.flush()

	if longest != maxLine || len(b.rest) != 0 || count != 11 {
		t.Errorf("%d lines, the longest of %d bytes, %d bytes left", count, longest, len(b.rest))
	}
}
