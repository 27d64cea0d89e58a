package talos

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/bufnode"
)

// crowd is a cluster whose nodes are asked 16 at a time, with half a minute each, and some of its nodes.
func crowd(t *testing.T, nodes int) (*Cluster, []Target) {
	t.Helper()

	c, err := NewCluster(nil, "test", conn.Options{Endpoints: []string{"10.0.0.1"}, Concurrency: 16, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = c.Close() })

	targets := make([]Target, nodes)
	for i := range targets {
		targets[i] = Target{Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)}
	}

	return c, targets
}

// TestSilentNodesDoNotQueue asks nodes of every shape with healthy nodes behind them. However many are dead, all of them
// have been asked before the first deadline passes, and the healthy ones have answered.
func TestSilentNodesDoNotQueue(t *testing.T) {
	t.Parallel()

	const dead, healthy = 64, 16

	errNoRoute := errors.New("no route to host")

	for name, shape := range map[string]struct {
		answer func(context.Context) error
		most   time.Duration // When the last node has answered or failed.
	}{
		"no route":   {func(context.Context) error { return errNoRoute }, 0},
		"refused":    {func(context.Context) error { return errors.New("connection refused") }, 0},
		"black hole": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 31 * time.Second},
		"slow":       {func(ctx context.Context) error { return pause(ctx, 5*time.Second) }, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				c, targets := crowd(t, dead+healthy)

				var answered, asked atomic.Int32

				done := make(chan []Outcome[int])
				start := time.Now()

				go func() {
					done <- Each(t.Context(), c, targets, func(ctx context.Context, n *Node) (int, error) {
						if asked.Add(1) > dead {
							answered.Add(1)

							return 1, nil
						}

						return 0, shape.answer(ctx)
					})
				}()

				<-time.After(4 * patience)
				synctest.Wait()

				if asked.Load() != dead+healthy || answered.Load() != healthy {
					t.Errorf("%d were asked and %d answered before the first deadline, want all %d and %d", asked.Load(), answered.Load(), dead+healthy, healthy)
				}

				if outcomes := <-done; len(outcomes) != dead+healthy || time.Since(start) > max(shape.most, 4*patience) {
					t.Errorf("%d outcomes after %s, want %d within %s", len(outcomes), time.Since(start), dead+healthy, shape.most)
				}
			})
		})
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// greeter is a node that says its version.
type greeter struct {
	machine.UnimplementedMachineServiceServer
}

func (greeter) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	return &machine.VersionResponse{Messages: []*machine.Version{{Version: &machine.VersionInfo{Tag: "v1.14.1"}}}}, nil
}

// TestConcurrency asserts how many nodes are worked on at once: those that answer keep their place, and however many are
// silent, there is a bound. Changes are never more than the concurrency.
func TestConcurrency(t *testing.T) {
	t.Parallel()

	for name, tt := range map[string]struct {
		nodes, want int32
		ask         func(context.Context, *Cluster, []Target, func(context.Context, *Node) (int, error)) []Outcome[int]
		answers     bool
	}{
		"reads that answer":     {40, 16, Each[int], true},
		"reads that are silent": {600, maxOpen, Each[int], false},
		"streams that answer": {40, 16, func(ctx context.Context, c *Cluster, t []Target, fn func(context.Context, *Node) (int, error)) []Outcome[int] {
			return EachStream(ctx, c, t, false, fn)
		}, true},
		"changes": {40, 16, EachChange[int], false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				c, targets := crowd(t, int(tt.nodes))
				c.Options.Timeout = time.Hour
				c.Keep("10.0.0.1", bufnode.Serve(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, greeter{}) }))

				var open, most atomic.Int32

				release := make(chan struct{})
				done := make(chan int)

				go func() {
					done <- len(tt.ask(t.Context(), c, targets, func(ctx context.Context, n *Node) (int, error) {
						if now := open.Add(1); now > most.Load() {
							most.Store(now)
						}

						defer open.Add(-1)

						if tt.answers {
							if _, err := n.Version(ctx); err != nil {
								return 0, err
							}
						}

						<-release

						return 0, nil
					}))
				}()

				<-time.After(time.Minute)
				synctest.Wait()

				if got := open.Load(); got != tt.want {
					t.Errorf("%d are open, want %d", got, tt.want)
				}

				close(release)

				if n := <-done; n != int(tt.nodes) || most.Load() > tt.want {
					t.Errorf("%d outcomes, at most %d at once, want %d and %d", n, most.Load(), tt.nodes, tt.want)
				}
			})
		})
	}
}

// silent is an endpoint that forwards nothing: of the nodes behind it none answers before the caller gives up.
type silent struct {
	cosi.UnimplementedStateServer

	asked atomic.Int32
}

func (s *silent) List(*cosi.ListRequest, grpc.ServerStreamingServer[cosi.ListResponse]) error {
	return nil
}

func (s *silent) Get(ctx context.Context, _ *cosi.GetRequest) (*cosi.GetResponse, error) {
	s.asked.Add(1)
	<-ctx.Done()

	return nil, ctx.Err()
}

// TestUnknownAddressesAreAskedTogether names addresses that discovery does not have and whose machines are silent. Who they
// are is asked of all of them before the first has had its time, and that time counts: the read ends with their timeout.
func TestUnknownAddressesAreAskedTogether(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		s := &silent{}
		c, targets := crowd(t, 40)
		c.Keep("10.0.0.1", bufnode.Serve(t, func(srv *grpc.Server) {
			cosi.RegisterStateServer(srv, s)
			machine.RegisterMachineServiceServer(srv, machine.UnimplementedMachineServiceServer{})
		}))

		resolved := make(chan target.Set)
		start := time.Now()

		go func() {
			set, err := c.resolveNames(t.Context(), lists.Map(targets, Target.Name))
			if err != nil {
				t.Error(err)
			}

			resolved <- set
		}()

		<-time.After(whoLimit / 2)
		synctest.Wait()

		if got := s.asked.Load(); int(got) != len(targets) {
			t.Errorf("%d were asked before the first had had its time, want all %d", got, len(targets))
		}

		set := <-resolved
		if len(set.Nodes) != len(targets) {
			t.Errorf("%d targets, want %d", len(set.Nodes), len(targets))
		}

		Each(t.Context(), c, set.Nodes, func(ctx context.Context, n *Node) (string, error) { return n.Identity(ctx) })

		if took := time.Since(start); took > c.Options.Timeout+4*patience {
			t.Errorf("all of it took %s, want the timeout of %s and no more", took, c.Options.Timeout)
		}
	})
}
