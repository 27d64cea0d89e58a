package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/talosmate/talosmate/lab/internal/cli"
	"github.com/talosmate/talosmate/lab/internal/cluster"
)

// run runs one command line in this process.
func run(t *testing.T, ctx context.Context, args ...string) (int, string, string) {
	t.Helper()

	var out, errOut bytes.Buffer

	code := cli.Main(ctx, args, nil, &out, &errOut)

	return code, out.String(), errOut.String()
}

func TestUpCtlRunDown(t *testing.T) {
	dir := t.TempDir()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	ended := make(chan int, 1)

	go func() {
		code, _, _ := run(t, ctx, "up", "--dir", dir, "--controlplanes", "1", "--workers", "1", "--boot-time", "50ms", "--shutdown-time", "10ms")
		ended <- code
	}()

	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()

	for {
		if _, err := os.Stat(filepath.Join(dir, cluster.DescriptionFile)); err == nil {
			break
		}

		select {
		case <-ticker.C:
		case code := <-ended:
			t.Fatalf("up ended with %d", code)
		}
	}

	if code, _, errOut := run(t, ctx, "up", "--dir", dir); code == 0 || errOut == "" {
		t.Error("a second lab in the same directory")
	}

	for _, args := range [][]string{
		{"status"},
		{"ctl", "nodes"},
		{"ctl", "state"},
		{"ctl", "state", "worker-1"},
		{"ctl", "fault", "worker-1", "latency=1ms", "drop-answer=Reboot"},
		{"ctl", "clear", "worker-1"},
		{"ctl", "image", "add", "worker-1", "example.com/app:v1", "--in-use", "digest", "--age", "48h", "--size", "1000000"},
		{"ctl", "image", "list", "worker-1"},
		{"ctl", "image", "gc", "worker-1", "2h"},
		{"ctl", "service", "worker-1", "kubelet", "fail"},
		{"ctl", "service", "worker-1", "kubelet", "ok"},
		{"ctl", "etcd", "leader"},
		{"ctl", "etcd", "put", "k", "v"},
		{"ctl", "etcd", "get", "k"},
		{"ctl", "etcd", "fill", "2000000"},
		{"ctl", "etcd", "compact", "--delete"},
		{"ctl", "etcd", "alarm", "cp-1", "NOSPACE"},
		{"ctl", "etcd", "alarm", "cp-1", "none"},
		{"ctl", "log", "worker-1", "kubelet", "--lines", "10", "--line", "hello"},
		{"ctl", "file", "worker-1", "/var/log/x", "--size", "100"},
		{"ctl", "kernel", "worker-1", "kern", "err", "oops"},
		{"ctl", "config", "worker-1"},
		{"ctl", "hang", "worker-1", "on"},
		{"ctl", "hang", "worker-1", "off"},
		{"ctl", "power", "worker-1", "off"},
		{"ctl", "power", "worker-1", "on"},
		{"ctl", "wait", "worker-1"},
		{"ctl", "requests"},
		{"ctl", "requests", "--reset"},
		{"ctl", "timeline", "worker-1"},
	} {
		code, out, errOut := run(t, ctx, append(args, "--dir", dir)...)
		if code != 0 {
			t.Errorf("%v: %d %s", args, code, errOut)

			continue
		}

		// a stream of documents for several faults, one otherwise
		if dec := json.NewDecoder(bytes.NewBufferString(out)); dec.Decode(new(any)) != nil {
			t.Errorf("%v: not JSON: %s", args, out)
		}
	}

	if code, _, _ := run(t, ctx, "ctl", "state", "nobody", "--dir", dir); code != 1 {
		t.Errorf("state of nobody: %d", code)
	}

	if code, out, _ := run(t, ctx, "run", "--dir", dir, "--", "sh", "-c", "echo $TALOSCONFIG; exit 7"); code != 7 || out != filepath.Join(dir, "talosconfig")+"\n" {
		t.Errorf("run: %d %q", code, out)
	}

	// the lab runs in this process here, so that down's wait for the process would be in vain
	cancel()

	if code := <-ended; code != 0 {
		t.Errorf("up ended with %d", code)
	}
}
