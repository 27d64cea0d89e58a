package cli

import (
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
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/lab/internal/cluster"
	"github.com/talosmate/talosmate/lab/internal/control"
)

// stopWait is how long down waits until the lab has stopped.
const stopWait = 30 * time.Second

func newDown(s *streams, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := cluster.ReadDescription(*dir)
			if errors.Is(err, os.ErrNotExist) {
				return s.json(map[string]bool{"stopped": false})
			}

			if err != nil {
				return err
			}

			if err := stopLab(cmd.Context(), d); err != nil {
				return err
			}

			if err := os.Remove(filepath.Join(*dir, cluster.DescriptionFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}

			return s.json(map[string]bool{"stopped": true})
		},
	}
}

func stopLab(ctx context.Context, d cluster.Description) error {
	if !alive(d.PIDs) {
		return nil
	}

	// the control endpoint first; the process is signalled only if it does not answer
	if _, err := call(ctx, d.Control, control.Request{Verb: "stop"}); err != nil {
		syscall.Kill(d.PIDs[0], syscall.SIGTERM) //nolint:errcheck
	}

	deadline := time.NewTimer(stopWait)
	defer deadline.Stop()

	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()

	for alive(d.PIDs[:1]) {
		select {
		case <-poll.C:
		case <-deadline.C:
			return fmt.Errorf("the lab (pid %d) did not stop within %s", d.PIDs[0], stopWait)
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	return nil
}

// alive reports whether the lab's own process still runs.
func alive(pids []int) bool {
	return len(pids) > 0 && syscall.Kill(pids[0], 0) == nil
}

func newStatus(s *streams, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show where the cluster is and the state of its nodes, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := running(*dir)
			if err != nil {
				return err
			}

			raw, err := call(cmd.Context(), d.Control, control.Request{Verb: "nodes"})
			if err != nil {
				return fmt.Errorf("the lab in %s does not answer: %w", *dir, err)
			}

			return s.json(struct {
				cluster.Description

				State json.RawMessage `json:"state"`
			}{d, raw})
		},
	}
}

func newRun(s *streams, dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "run -- COMMAND...",
		Short:   "Run a command with TALOSCONFIG and KUBECONFIG set to the cluster's",
		Example: "  talosmate-lab run -- talosmate health",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := running(*dir)
			if err != nil {
				return err
			}

			child := exec.CommandContext(cmd.Context(), args[0], args[1:]...) //nolint:gosec // the user's command
			child.Stdin, child.Stdout, child.Stderr = s.in, s.out, s.err
			child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
			child.Env = append(os.Environ(), "TALOSCONFIG="+d.Talosconfig, "TALOSMATE_LAB_DIR="+d.Dir)

			if d.Kubeconfig != "" {
				child.Env = append(child.Env, "KUBECONFIG="+d.Kubeconfig)
			}

			err = child.Run()

			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() >= 0 {
				return exitError{code: exit.ExitCode()}
			}

			return err
		},
	}
}

// call sends a request to the control endpoint of a lab.
func call(ctx context.Context, url string, req control.Request) (json.RawMessage, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}

	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/ctl", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck

	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}

	if resp.StatusCode != http.StatusOK {
		var f control.Failure
		if err := json.Unmarshal(raw, &f); err == nil && f.Error != "" {
			return nil, errors.New(f.Error)
		}

		return nil, fmt.Errorf("control endpoint answers %s", resp.Status)
	}

	return raw, nil
}

// changedFlags lists the flags that the user set, except those of the parent command.
func changedFlags(cmd *cobra.Command) [][2]string {
	var out [][2]string

	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "detach" && f.Name != "dir" {
			out = append(out, [2]string{f.Name, f.Value.String()})
		}
	})

	return out
}
