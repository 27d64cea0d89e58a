package test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// mcpLab is a lab with a server of the real binary and the official SDK's client.
type mcpLab struct {
	t        *testing.T
	dir      string
	session  *mcp.ClientSession
	progress chan string
	stderr   *said
}

func (l *mcpLab) lab(args ...string) []byte {
	l.t.Helper()

	cmd := exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate-lab"), append([]string{"--dir", l.dir}, args...)...)
	cmd.Stderr = os.Stderr

	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("lab %v: %v", args, err)
	}

	return out
}

func (l *mcpLab) serve(args ...string) {
	l.t.Helper()

	cmd := exec.Command(filepath.Join(os.Getenv("TALOSMATE_TEST_BIN"), "talosmate"), append([]string{"mcp", "serve"}, args...)...)
	cmd.Env = append(os.Environ(), "TALOSCONFIG="+filepath.Join(l.dir, "talosconfig"), "HOME="+l.dir)
	cmd.Stderr = l.stderr

	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { l.progress <- r.Params.Message },
	})

	session, err := client.Connect(l.t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		l.t.Fatalf("%v\n%s", err, l.stderr)
	}

	l.session = session
	l.t.Cleanup(func() {
		if err := session.Close(); err != nil {
			l.t.Errorf("the server: %v\n%s", err, l.stderr)
		}
	})
}

func (l *mcpLab) call(ctx context.Context, name string, args map[string]any) (map[string]any, string, error) {
	params := &mcp.CallToolParams{Name: name, Arguments: args}
	params.SetProgressToken(name)

	res, err := l.session.CallTool(ctx, params)
	if err != nil {
		return nil, "", err
	}

	var all []string

	for _, c := range res.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			all = append(all, text.Text)
		}
	}

	doc, _ := res.StructuredContent.(map[string]any)

	return doc, strings.Join(all, "\n"), nil
}

// want calls a tool, checks its exit code, and that the result has a text.
func (l *mcpLab) want(code int, part, name string, args map[string]any) {
	l.t.Helper()

	doc, text, err := l.call(l.t.Context(), name, args)
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", name, err, l.stderr)
	}

	if got, _ := doc["exit_code"].(float64); int(got) != code || !strings.Contains(text, part) {
		l.t.Errorf("%s %v: exit code %v, want %d with %q\n%s", name, args, doc["exit_code"], code, part, text)
	}
}

func (l *mcpLab) reboots(node string) int {
	l.t.Helper()

	var counts struct {
		Nodes map[string]struct{ Executed map[string]int }
	}

	if err := json.Unmarshal(l.lab("ctl", "requests"), &counts); err != nil {
		l.t.Fatal(err)
	}

	return counts.Nodes[node].Executed["machine.MachineService/Reboot"]
}

// TestMCP is a client's whole session: it lists the tools, reads, is refused a change, makes one, and cancels one.
func TestMCP(t *testing.T) {
	t.Parallel()

	l := &mcpLab{t: t, dir: t.TempDir(), progress: make(chan string, 1000), stderr: &said{}}
	l.lab("up", "--detach", "--boot-time", "700ms", "--shutdown-time", "200ms")
	t.Cleanup(func() { l.lab("down") })

	l.serve() // reads only

	listed := map[string]bool{}

	for tool, err := range l.session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}

		listed[tool.Name] = tool.Annotations.ReadOnlyHint
	}

	if !listed["health"] || !listed["etcd_status"] || len(listed) < 50 {
		t.Errorf("tools: %v", listed)
	}

	for name, reads := range listed {
		if !reads {
			t.Errorf("%s is offered", name)
		}
	}

	for _, read := range []struct {
		name, part string
		args       map[string]any
	}{
		{"describe", `"schema":"talosmate/v1/ClusterDescription"`, nil},
		{"health", `"healthy":true`, map[string]any{"scope": "etcd"}},
		{"version", `"tag":"v1.14.1"`, map[string]any{"nodes": []string{"cp-1"}}},
		{"members", `"hostname":"worker-2"`, nil},
		{"etcd_status", `"hostname":"cp-3"`, nil},
		{"etcd_members", `cp-2`, nil},
		{"service_list", `"output":"apid`, map[string]any{"nodes": []string{"@workers"}, "query": ".items[].id"}},
		{"get", `worker-1`, map[string]any{"type": "members", "nodes": []string{"cp-1"}}},
		{"logs", `"log":"kubelet"`, map[string]any{"service": "kubelet", "nodes": []string{"worker-1"}, "tail": 3}},
		{"system_disks", `/dev/sda`, map[string]any{"nodes": []string{"worker-1"}}},
	} {
		l.want(0, read.part, read.name, read.args)
	}

	worker := map[string]any{"nodes": []string{"worker-1"}}

	l.want(5, "TM111", "node_reboot", worker)
	l.want(0, `"status":"planned"`, "node_reboot", map[string]any{"nodes": []string{"worker-1"}, "dry_run": true})

	if n := l.reboots("worker-1"); n != 0 {
		t.Fatalf("%d reboots of a server that only reads", n)
	}

	l.serve("--allow-changes", "--allow-nodes", "worker-1", "--tools", "node_*,version")
	l.want(0, `"status":"ok"`, "node_reboot", worker)
	l.want(5, "TM163", "node_reboot", map[string]any{"nodes": []string{"worker-2"}})
	l.want(5, "TM112", "node_reset", worker)

	if a, b := l.reboots("worker-1"), l.reboots("worker-2"); a != 1 || b != 0 {
		t.Fatalf("%d and %d reboots, want 1 and 0", a, b)
	}

	// A reboot is cancelled while the node boots: the command says what it left, in the next result.
	l.lab("ctl", "fault", "worker-1", "slow-boot=20s")

	for len(l.progress) > 0 {
		<-l.progress
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	go func() {
		for message := range l.progress {
			if strings.Contains(message, "worker-1: wait") {
				cancel()

				return
			}
		}
	}()

	if _, text, err := l.call(ctx, "node_reboot", worker); err == nil {
		t.Fatalf("the call was not cancelled: %s", text)
	}

	var notice string

	for !strings.HasPrefix(notice, "notice: ") {
		var err error
		if _, notice, err = l.call(t.Context(), "version", map[string]any{"nodes": []string{"worker-1"}, "query": ".errors[].code"}); err != nil {
			t.Fatal(err)
		}
	}

	if !strings.Contains(notice, "node_reboot was cancelled and ended with exit code 130") {
		t.Errorf("%s", notice)
	}

	_, uri, _ := strings.Cut(strings.SplitN(notice, "\n", 2)[0], "its result is ")

	kept, err := l.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	if err != nil || !strings.Contains(kept.Contents[0].Text, `"status":"interrupted"`) {
		t.Errorf("%v %+v", err, kept)
	}

	if n := l.reboots("worker-1"); n != 2 {
		t.Errorf("%d reboots, want 2", n)
	}
}
