//go:build linux

// Command load runs many command lines at once against a lab for some time, beside one MCP server that answers all the while. It fails
// if one of them fails, if a process needs more memory than is allowed, or if sockets stay open.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// commands are what an operator, a dashboard and a job ask for.
func commands(nodes []string) [][]string {
	return [][]string{
		{"version", "--all-nodes", "-o", "json"},
		{"service", "list", "--all-nodes", "-o", "json", "--query", ".items | length"},
		{"members", "-o", "json"},
		{"get", "members", "-n", nodes[0], "-o", "yaml"},
		{"service", "list", "-n", nodes[len(nodes)/2]},
		{"dmesg", "-n", nodes[len(nodes)-1], "--tail", "20"},
		{"system", "disks", "--all-nodes", "-o", "ndjson"},
	}
}

type figures struct {
	mu     sync.Mutex
	wall   map[string][]time.Duration
	peak   int64 // Of one process, in KiB.
	failed []string
}

func (f *figures) add(args []string, wall time.Duration, peak int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	name := strings.Join(args, " ")
	f.wall[name] = append(f.wall[name], wall)
	f.peak = max(f.peak, peak)

	if err != nil && len(f.failed) < 10 {
		f.failed = append(f.failed, fmt.Sprintf("%s: %v", name, err))
	}
}

func main() {
	log.SetFlags(0)

	long := flag.Duration("for", time.Minute, "how long")
	parallel := flag.Int("parallel", 20, "how many command lines at once")
	most := flag.Int64("most", 200, "fail when a process needs more than this many MiB")
	dir := flag.String("lab", "", "the lab's directory")
	flag.Parse()

	if err := run(*dir, *long, *parallel, *most); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, long time.Duration, parallel int, most int64) error {
	raw, err := os.ReadFile(dir + "/lab.json") //nolint:gosec // G304: the lab's own file
	if err != nil {
		return err
	}

	var lab struct {
		PIDs  []int                      `json:"pids"`
		Nodes []struct{ Address string } `json:"nodes"`
	}

	if err = json.Unmarshal(raw, &lab); err != nil {
		return err
	}

	nodes := make([]string, len(lab.Nodes))
	for i, n := range lab.Nodes {
		nodes[i] = n.Address
	}

	server, err := serve(nodes[:min(len(nodes), 50)])
	if err != nil {
		return err
	}

	all := figures{wall: map[string][]time.Duration{}}

	// What stays open after everything was asked once is what the lab's own nodes keep between each other.
	for _, args := range commands(nodes) {
		all.add(args, 0, 0, once(args, &all))
	}

	all.wall = map[string][]time.Duration{}

	if err = errors.Join(server.call(), failures(all.failed)); err != nil {
		return err
	}

	labBefore, serverBefore := open(lab.PIDs[0]), open(server.cmd.Process.Pid)
	end := time.Now().Add(long)
	calls := 0

	var wg sync.WaitGroup //nolint:forbidigo // a tool of the repository

	for worker := range parallel {
		wg.Go(func() {
			list := commands(nodes)
			for i := worker; time.Now().Before(end); i++ {
				args := list[i%len(list)]
				began := time.Now()
				err := once(args, &all)
				all.add(args, time.Since(began), 0, err)
			}
		})
	}

	var callErr error
	for time.Now().Before(end) && callErr == nil {
		callErr = server.call()
		calls++
	}

	wg.Wait()

	runs := all.print()
	labAfter, serverAfter, memory := settle(lab.PIDs[0], labBefore), settle(server.cmd.Process.Pid, serverBefore), server.memory()

	fmt.Printf("%d nodes, %d command lines at once for %s: %d runs, %d failed, peak of one process %d MiB\n", len(nodes), parallel, long, runs, len(all.failed), all.peak>>10)
	fmt.Printf("MCP server: %d calls, %d MiB, descriptors %d before and %d after\n", calls, memory>>10, serverBefore, serverAfter)
	fmt.Printf("lab: descriptors %d before and %d after\n", labBefore, labAfter)

	return errors.Join(
		failures(all.failed), callErr, server.close(),
		atMost("the memory of a command", all.peak>>10, most), atMost("the memory of the MCP server", memory>>10, most),
		atMost("the descriptors of the MCP server", serverAfter, serverBefore+8), atMost("the descriptors of the lab", labAfter, keptByLab(len(nodes))),
	)
}

// keptByLab is how many descriptors the lab's nodes have when each of three endpoints keeps a connection to every node: its two ends, a
// listener, and as many again while they change.
func keptByLab(nodes int) int64 { return int64(8 * nodes) }

func failures(list []string) error {
	if len(list) == 0 {
		return nil
	}

	return errors.New(strings.Join(list, "\n"))
}

func atMost(what string, is, most int64) error {
	if is <= most {
		return nil
	}

	return fmt.Errorf("%s: %d, more than %d", what, is, most)
}

// print prints the median and the slowest of each command line.
func (f *figures) print() int {
	total := 0

	for name, wall := range f.wall {
		slices.Sort(wall)
		total += len(wall)

		fmt.Printf("%-60s %5d runs, median %7.0f ms, slowest %7.0f ms\n", name, len(wall),
			float64(wall[len(wall)/2].Microseconds())/1000, float64(wall[len(wall)-1].Microseconds())/1000)
	}

	return total
}

// once runs a command line and notes its memory.
func once(args []string, f *figures) error {
	var stderr bytes.Buffer

	cmd := exec.CommandContext(context.Background(), "talosmate", args...) //nolint:gosec // G204: the program that is measured
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr
	err := cmd.Run()

	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.mu.Lock()
		f.peak = max(f.peak, usage.Maxrss)
		f.mu.Unlock()
	}

	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()[:min(stderr.Len(), 300)]))
	}

	return nil
}

// mcp is a server that lives as long as the load.
type mcp struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	next int

	nodes []string // Whom it asks.
}

func serve(nodes []string) (*mcp, error) {
	m := &mcp{nodes: nodes, cmd: exec.CommandContext(context.Background(), "talosmate", "mcp", "serve")}

	in, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}

	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	m.in, m.out, m.cmd.Stderr = in, bufio.NewReaderSize(out, 1<<20), io.Discard

	if err = m.cmd.Start(); err != nil {
		return nil, err
	}

	return m, m.ask("initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"load","version":"1"}}`)
}

func (m *mcp) ask(method, params string) error {
	m.next++

	if _, err := fmt.Fprintf(m.in, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`+"\n", m.next, method, params); err != nil {
		return err
	}

	for {
		line, err := m.out.ReadBytes('\n')
		if err != nil {
			return err
		}

		var answer struct {
			ID     int             `json:"id"`
			Error  json.RawMessage `json:"error"`
			Result struct {
				IsError bool `json:"isError"`
			} `json:"result"`
		}

		if json.Unmarshal(line, &answer) != nil || answer.ID != m.next {
			continue // a notification
		}

		if answer.Error != nil || answer.Result.IsError {
			return fmt.Errorf("the MCP server answers %.500s", line)
		}

		return nil
	}
}

func (m *mcp) call() error {
	nodes, err := json.Marshal(m.nodes)
	if err != nil {
		return err
	}

	return m.ask("tools/call", fmt.Sprintf(`{"name":"version","arguments":{"nodes":%s}}`, nodes))
}

// memory is what the server has now, in KiB.
func (m *mcp) memory() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		return 0
	}

	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	size, _ := strconv.ParseInt(value, 10, 64)

	return size
}

func (m *mcp) close() error {
	return errors.Join(m.in.Close(), m.cmd.Wait())
}

// open counts the descriptors of a process.
func open(pid int) int64 {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}

	return int64(len(all))
}

// settle counts the descriptors of a process when they are few again, or after a while.
func settle(pid int, before int64) int64 {
	for range 100 {
		if open(pid) <= before {
			break
		}

		time.Sleep(100 * time.Millisecond)
	}

	return open(pid)
}
