package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestMCPLeavesNothing checks that a server has no more descriptors and goroutines after many calls over a bad network,
// some of them cancelled, than after a few over a good one.
func TestMCPLeavesNothing(t *testing.T) {
	t.Parallel()

	f := startLab(t)
	few, many := f.afterCalls(3, false), f.afterCalls(40, true)

	const more = 4 // A timer or a connection that closes; a leak would be one for each call.
	if many.descriptors > few.descriptors+more || many.goroutines > few.goroutines+more {
		t.Errorf("after many calls %d descriptors and %d goroutines, after few %d and %d\n%s", many.descriptors, many.goroutines, few.descriptors, few.goroutines, many.stacks)
	}
}

// holds is what a process holds.
type holds struct {
	descriptors, goroutines int
	stacks                  string
}

// afterCalls starts a server, makes several calls at a time in each round, and returns what it holds afterwards.
func (f *fleet) afterCalls(rounds int, bad bool) holds {
	f.t.Helper()

	stderr := &said{}
	cmd := exec.Command(filepath.Join(f.bin, "talosmate"), "mcp", "serve", "--timeout", "1s")
	cmd.Env, cmd.Dir, cmd.Stderr = append(slices.Clone(f.env), "HOME="+f.dir), f.dir, stderr

	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(f.t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		f.t.Fatalf("%v\n%s", err, stderr)
	}

	random := rand.New(rand.NewPCG(1, 2))

	for range rounds {
		if bad {
			for _, node := range chaosNodes() {
				f.fault(node, fmt.Sprintf("wire=%d", random.Uint32()))
			}
		}

		var calls sync.WaitGroup

		for tool, args := range map[string]map[string]any{
			"version": nil, "service_list": nil, "etcd_status": nil, "get": {"type": "members", "nodes": []string{"cp-1"}},
			"logs": {"service": "kubelet", "nodes": []string{"worker-1"}}, "health": nil,
		} {
			within := time.Minute
			if bad && random.IntN(3) == 0 {
				within = time.Duration(random.IntN(300)) * time.Millisecond
			}

			calls.Go(func() {
				ctx, cancel := context.WithTimeout(f.t.Context(), within)
				defer cancel()

				if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					f.t.Errorf("%s: %v", tool, err)
				}
			})
		}

		calls.Wait()

		for _, node := range chaosNodes() {
			f.tellLab("clear", node)
		}
	}

	f.until("the nodes to serve nobody", func(context.Context) bool { return f.clients() == 0 })

	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
	if err != nil {
		f.t.Fatal(err)
	}

	// SIGQUIT makes a Go program print its goroutines and end.
	if err = cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		f.t.Fatal(err)
	}

	_ = session.Close() // it ends with an error
	stacks := stderr.String()

	return holds{len(open), len(regexp.MustCompile(`(?m)^goroutine \d+ `).FindAllString(stacks, -1)), strings.TrimSpace(stacks)}
}

// clients counts the connections to the nodes that do not come from another node.
func (f *fleet) clients() (n int) {
	f.t.Helper()

	var nodes []struct{ Clients int }

	f.ask(&nodes, "nodes", "")

	for _, node := range nodes {
		n += node.Clients
	}

	return n
}
