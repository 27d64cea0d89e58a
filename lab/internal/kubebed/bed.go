// Package kubebed runs the lab's real Kubernetes control plane, which is a program of its own, and simulates the work
// of the kubelet in Talos.
package kubebed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// startTimeout is how long the control plane may take to come up.
const startTimeout = 2 * time.Minute

// stopTimeout is how long it may take to stop.
const stopTimeout = 10 * time.Second

// ErrNotBuilt is returned if the program is not found.
var ErrNotBuilt = errors.New("the Kubernetes bed is not built: run `go run ./build` in lab/kube, or set TALOSMATE_LAB_KUBE_BIN")

// Machine is one node in the form that the bed receives.
type Machine struct {
	Name         string `json:"name"`
	InternalIP   string `json:"internal_ip"`
	ControlPlane bool   `json:"control_plane"`
	TalosVersion string `json:"talos_version,omitempty"`
	Off          bool   `json:"off,omitempty"`
}

// Bed is a running control plane.
type Bed struct {
	cmd     *exec.Cmd
	exited  chan struct{}
	control string
	pids    []int
	// Kubeconfig is the administrator's, with embedded credentials.
	Kubeconfig []byte
	api        *api
}

// Find locates the program: the given file or directory, or the build cache.
func Find(hint string) (string, error) {
	if hint != "" {
		if info, err := os.Stat(hint); err == nil && info.IsDir() {
			hint = filepath.Join(hint, "kubebed")
		}

		if _, err := os.Stat(hint); err != nil {
			return "", fmt.Errorf("%w (%w)", ErrNotBuilt, err)
		}

		return hint, nil
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}

	built, err := filepath.Glob(filepath.Join(cache, "talosmate", "kube", "*", "kubebed"))
	if err != nil || len(built) == 0 {
		return "", ErrNotBuilt
	}

	// the last one built
	slices.SortFunc(built, func(a, b string) int { return modified(b).Compare(modified(a)) })

	return built[0], nil
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}

	return info.ModTime()
}

// Start runs the control plane for machines that are still off.
func Start(ctx context.Context, program, dir, cluster string, machines []Machine) (*Bed, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}

	raw, err := json.Marshal(map[string]any{"nodes": machines})
	if err != nil {
		return nil, err
	}

	nodes := filepath.Join(dir, "nodes.json")
	if err := os.WriteFile(nodes, raw, 0o644); err != nil {
		return nil, err
	}

	log, err := os.Create(filepath.Join(dir, "kubebed.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck

	b := &Bed{cmd: exec.Command(program, "up", "--dir", dir, "--nodes", nodes), exited: make(chan struct{})} //nolint:gosec // the lab's own program
	b.cmd.Stderr = log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := b.cmd.Start(); err != nil {
		return nil, err
	}

	ready := make(chan error, 1)

	go func() {
		ready <- b.announce(out, cluster)

		_, _ = io.Copy(io.Discard, out) //nolint:errcheck // nothing more is expected
		_ = b.cmd.Wait()                //nolint:errcheck // Stop only waits for its end
		close(b.exited)
	}()

	timer := time.NewTimer(startTimeout)
	defer timer.Stop()

	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("the Kubernetes bed was not ready after %s", startTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}

	if err != nil {
		b.Stop()

		return nil, fmt.Errorf("start the Kubernetes bed (log in %s): %w", log.Name(), err)
	}

	return b, nil
}

// announce reads the line that the program prints when it is ready.
func (b *Bed) announce(out io.Reader, cluster string) error {
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("it ended before it was ready: %w", err)
	}

	var said struct {
		Kubeconfig string `json:"kubeconfig"`
		Control    string `json:"control"`
		PID        int    `json:"pid"`
		PIDs       []int  `json:"pids"`
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return err
	}

	b.control, b.pids = said.Control, append([]int{said.PID}, said.PIDs...)

	if b.api, err = newAPI(said.Kubeconfig); err != nil {
		return err
	}

	b.Kubeconfig = b.api.kubeconfig(cluster)

	return nil
}

// PIDs lists the processes.
func (b *Bed) PIDs() []int { return b.pids }

// Stop ends the control plane with its children.
func (b *Bed) Stop() {
	if b.cmd.Process == nil {
		return
	}

	_ = b.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended

	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()

	select {
	case <-b.exited:
	case <-timer.C:
		_ = b.cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-b.exited
	}
}

// errNoMachine is the bed's error for an unknown machine.
var errNoMachine = errors.New("no such machine")

// errConflict is the bed's error for a machine that exists, and for an API server that is down or being started.
var errConflict = errors.New("the Kubernetes bed refuses")

// tell sends one request to the bed's control interface.
func (b *Bed) tell(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}

	req, err := http.NewRequestWithContext(ctx, method, b.control+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck

	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}

	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, errNoMachine
	case resp.StatusCode == http.StatusConflict:
		return nil, fmt.Errorf("%w: %s", errConflict, answer)
	case resp.StatusCode >= 300:
		return nil, fmt.Errorf("Kubernetes bed: %s: %s", resp.Status, answer)
	default:
		return answer, nil
	}
}

// Outage makes the API server unavailable for a while: mode refuse or hang.
func (b *Bed) Outage(ctx context.Context, seconds float64, mode string) error {
	_, err := b.tell(ctx, http.MethodPost, "/apiserver/outage", map[string]any{"seconds": seconds, "mode": mode})

	return err
}
