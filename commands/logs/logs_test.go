package logs_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

func TestLogs(t *testing.T) {
	t.Parallel()

	etcd := map[string]string{"MachineService.Logs": "etcd"}
	trustd := map[string]string{"MachineService.Logs": "trustd"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "logs.raw", Args: []string{"logs", "trustd", "-n", "10.5.0.2"}, Variants: trustd},
		{Name: "logs.json", Args: []string{"logs", "trustd", "-n", "n1", "-o", "json", "--filter", "CSR"}, Variants: trustd},
		{Name: "logs.ndjson", Args: []string{"logs", "trustd", "-n", "n1", "-o", "ndjson", "--filter-regex", `from 10\.5\.0\.5:`}, Variants: trustd},
		{Name: "logs.wide", Args: []string{"logs", "trustd", "-n", "n1", "-o", "yaml", "--query", ".items | length"}, Variants: trustd},
		// The etcd log is cut in chunks of 1 KiB: the filter sees whole lines all the same.
		{Name: "logs.filter", Args: []string{"logs", "etcd", "-n", "n1", "--filter", "promote"}, Variants: etcd},
		{Name: "logs.cut", Args: []string{"logs", "etcd", "-n", "n1", "--filter", "promote", "--max-line-bytes", "40"}, Variants: etcd},
		{Name: "logs.cut-json", Args: []string{"logs", "etcd", "-n", "n1", "--filter", "promote", "--max-line-bytes", "40", "-o", "json"}, Variants: etcd},
		{Name: "logs.since", Args: []string{"logs", "etcd", "-n", "n1", "--since", "2026-11-22T18:37:00Z", "--query", ".items[].time"}, Variants: etcd},
		{
			Name: "logs.since-none", Args: []string{"logs", "kubelet", "-n", "n1", "--since", "10m"}, Code: 2,
			Variants: map[string]string{"MachineService.Logs": "kubelet"}, Stderr: []string{"have no time stamp"},
		},
		{
			Name: "logs.unknown", Args: []string{"logs", "nosuchservice", "-n", "n1", "-o", "json"}, Code: 1,
			Variants: map[string]string{"MachineService.Logs": "nosuchservice"}, Stderr: []string{"cannot read the log of nosuchservice on 10.5.0.2 (n1)"},
		},
		{
			Name: "logs.partial", Args: []string{"logs", "trustd", "-n", "10.5.0.2,10.5.0.4", "-o", "ndjson", "--filter", "10.5.0.5:"}, Code: 4,
			Variants: trustd, Stderr: []string{"cannot read the log of trustd on 10.5.0.4"},
		},
		{Name: "logs.follow-json", Args: []string{"logs", "trustd", "-n", "n1", "-f", "-o", "json"}, Code: 2, Stderr: []string{"-o ndjson"}},
		{Name: "logs.bad-regex", Args: []string{"logs", "trustd", "-n", "n1", "--filter-regex", "("}, Code: 2},
		{
			Name: "logs.no-container", Args: []string{"logs", "-k", "kube-system/none", "-n", "n1"}, Code: 1,
			Variants: map[string]string{"MachineService.Containers": "cri"}, Stderr: []string{"no such container"},
		},
	})
}

// TestAnEndlessLogIsCutInADocument: what is kept until the stream ends is bounded, and the beginning is shown.
func TestAnEndlessLogIsCutInADocument(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	endpoint := hostile.Start(t, server.Talosconfig(t, "os:reader"), server.Authority(t))
	endpoint.Endless("/machine.MachineService/Logs", bytes.Repeat([]byte("x\n"), 100_000))

	got := clitest.Run(t, []string{"TALOSCONFIG=" + endpoint.Talosconfig}, "logs", "etcd", "-n", "10.5.0.2", "-o", "name")
	if rows := strings.Count(got.Stdout, "\n"); got.Code != 1 || rows != conn.MaxRows || !strings.Contains(got.Stderr, "on 10.5.0.2 (n1): the node sent more than 500000 rows") {
		t.Errorf("exit code %d, %d rows, stderr: %s", got.Code, rows, got.Stderr)
	}
}
