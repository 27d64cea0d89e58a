package mcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/testing/golden"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// execute stands for the program that runs a command line.
type execute func(ctx context.Context, args []string, io *iostreams.Streams, limits cmdutil.Limits) int

// bed is a server with a client.
type bed struct {
	*sdk.ClientSession

	progress chan *sdk.ProgressNotificationParams
	stderr   *lockedBuffer
	ended    chan int
	hangUp   func()
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.text.String()
}

// start runs `talosmate mcp serve` in process. A nil run is the program itself.
func start(t *testing.T, run execute, env []string, args ...string) *bed {
	t.Helper()

	fromClient, toServer := io.Pipe()
	fromServer, toClient := io.Pipe()
	b := &bed{progress: make(chan *sdk.ProgressNotificationParams, 100), stderr: &lockedBuffer{}, ended: make(chan int, 1)}
	home := t.TempDir()
	streams := &iostreams.Streams{In: fromClient, Out: toClient, Err: b.stderr, Width: 80, Env: func(key string) (string, bool) {
		for _, kv := range env {
			if k, v, _ := strings.Cut(kv, "="); k == key {
				return v, true
			}
		}

		return home, key == "HOME"
	}}

	line := append([]string{"mcp", "serve"}, args...)

	go func() {
		var code int

		if run == nil {
			code = app.Run(context.WithoutCancel(t.Context()), line, streams)
		} else {
			f := cmdutil.NewFactory(streams, cmdutil.Build{Version: "test"})
			f.Execute = run
			root := commands.NewRoot(f)
			root.SetArgs(line)
			code = int(errs.ExitCode(root.ExecuteContext(context.WithoutCancel(t.Context()))))
		}

		_ = toClient.Close()
		b.ended <- code
	}()

	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { b.progress <- r.Params },
	})

	session, err := client.Connect(t.Context(), &sdk.IOTransport{Reader: fromServer, Writer: toServer}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.stderr)
	}

	b.ClientSession = session
	b.hangUp = sync.OnceFunc(func() {
		_ = toServer.Close() // first, since Close waits for the calls that run
		_ = session.Close()
	})

	t.Cleanup(func() {
		b.hangUp()

		if code := <-b.ended; code != 0 {
			t.Errorf("the server ended with exit code %d\n%s", code, b.stderr)
		}
	})

	return b
}

// document is the result of a call.
type document struct {
	ExitCode int             `json:"exit_code"`
	Exit     string          `json:"exit"`
	Schema   string          `json:"schema"`
	Items    []any           `json:"items"`
	Errors   []errs.Entry    `json:"errors"`
	Output   any             `json:"output"`
	Cut      json.RawMessage `json:"truncated"`
}

func (b *bed) call(t *testing.T, name string, args map[string]any) (document, *sdk.CallToolResult) {
	t.Helper()

	res, err := b.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}

	return documentOf(t, res), res
}

// documentOf reads the document from the text, and checks that the structured content is the same.
func documentOf(t *testing.T, res *sdk.CallToolResult) document {
	t.Helper()

	structured, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}

	var same bool

	var doc document

	for _, c := range res.Content {
		text, ok := c.(*sdk.TextContent)
		if !ok || !strings.HasPrefix(text.Text, "{") {
			continue
		}

		var a, b any
		if json.Unmarshal([]byte(text.Text), &a) != nil || json.Unmarshal(structured, &b) != nil {
			t.Fatalf("not a document: %s", text.Text)
		}

		same = fmt.Sprint(a) == fmt.Sprint(b)

		if err := json.Unmarshal([]byte(text.Text), &doc); err != nil {
			t.Fatal(err)
		}
	}

	if !same {
		t.Errorf("text and structured content differ: %s", structured)
	}

	return doc
}

func texts(res *sdk.CallToolResult) string {
	var all []string

	for _, c := range res.Content {
		switch c := c.(type) {
		case *sdk.TextContent:
			all = append(all, c.Text)
		case *sdk.ResourceLink:
			all = append(all, "link "+c.URI)
		}
	}

	return strings.Join(all, "\n")
}

// recorder notes the command lines that run.
type recorder struct {
	mu     sync.Mutex
	lines  [][]string
	stdin  string
	limits cmdutil.Limits
	answer string
	code   int
}

func (r *recorder) run(_ context.Context, args []string, io *iostreams.Streams, limits cmdutil.Limits) int {
	r.mu.Lock()
	defer r.mu.Unlock()

	text := new(bytes.Buffer)
	_, _ = text.ReadFrom(io.In)

	r.lines, r.stdin, r.limits = append(r.lines, args), text.String(), limits
	fmt.Fprint(io.Out, r.answer)

	return r.code
}

func (r *recorder) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()

	if len(r.lines) == 0 {
		return ""
	}

	return strings.Join(r.lines[len(r.lines)-1], " ")
}

// TestTools pins every tool with its parameters: a new command shows up here, and whoever adds it decides whether an agent
// may call it.
func TestTools(t *testing.T) {
	t.Parallel()

	r := &recorder{}
	b := start(t, r.run, nil, "--allow-changes", "--allow-secrets", "--files", t.TempDir(), "--contexts", "a,b")

	var out strings.Builder

	for tool, err := range b.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}

		schema, _ := tool.InputSchema.(map[string]any)
		properties, _ := schema["properties"].(map[string]any)

		var names []string

		for name, p := range properties {
			if desc, _ := p.(map[string]any)["description"].(string); strings.HasPrefix(desc, "file name") {
				name += "(file)"
			} else if strings.Contains(desc, "its text") || strings.Contains(desc, "its resource") || strings.Contains(desc, "address of") {
				name += "(text)"
			}

			names = append(names, name)
		}

		slices.Sort(names)

		kind := "read"
		if !tool.Annotations.ReadOnlyHint {
			kind = "change"
			if *tool.Annotations.DestructiveHint {
				kind = "destructive"
			}
		}

		fmt.Fprintf(&out, "%s %s: %s\n", tool.Name, kind, strings.Join(names, " "))
	}

	golden.Assert(t, "tools", []byte(out.String()))
}

// TestEveryCommandIsATool: a command that is none is documented, with the reason.
func TestEveryCommandIsATool(t *testing.T) {
	t.Parallel()

	b := start(t, (&recorder{}).run, nil, "--allow-changes", "--allow-secrets", "--files", t.TempDir())
	known := map[string]bool{}

	for tool, err := range b.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}

		known[tool.Name] = true
	}

	text, err := os.ReadFile("../../docs/mcp.md")
	if err != nil {
		t.Fatal(err)
	}

	streams := &iostreams.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false }}

	var walk func(cmd *cobra.Command)

	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "talosmate ")
		if _, ok := cmdutil.SpecOf(cmd); ok && !cmd.Hidden && !known[strings.NewReplacer(" ", "_", "-", "_").Replace(path)] && !strings.Contains(string(text), "`"+path+"`") {
			t.Errorf("%q is no tool, and docs/mcp.md does not give the reason", path)
		}

		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(commands.NewRoot(cmdutil.NewFactory(streams, cmdutil.Build{})))
}

func TestCommandLines(t *testing.T) {
	t.Parallel()

	r := &recorder{answer: `{"schema":"talosmate/v1/X","items":[],"errors":[]}`}
	files := t.TempDir()
	b := start(t, r.run, nil, "--allow-changes", "--files", files, "--timeout", "7s", "--endpoints", "10.0.0.1,10.0.0.2", "--compat")
	head := "--endpoints=10.0.0.1,10.0.0.2 --timeout=7s "

	for _, c := range []struct {
		tool  string
		args  map[string]any
		want  string
		stdin string
	}{
		{"service_list", nil, "service list --output=json", ""},
		{"service_list", map[string]any{"nodes": []string{"cp-1", "@workers", "@all"}, "query": ".items"}, "service list --output=json --nodes=cp-1 --workers=true --all-nodes=true --query=.items", ""},
		{"service_list", map[string]any{"nodes": "cp-1", "query": nil}, "service list --output=json --nodes=cp-1", ""},
		{"get", map[string]any{"type": "-o", "id": "--query=.x"}, "get --output=json -- -o --query=.x", ""},
		{"logs", map[string]any{"service": "etcd", "tail": 5, "filter": "a b\n--yes"}, "logs --output=json --filter=a b\n--yes --tail=5 -- etcd", ""},
		{"machineconfig_apply", map[string]any{"file": "machine: {}", "nodes": []string{"a,b"}}, "machineconfig apply --output=json --file=- --nodes=\"a,b\"", "machine: {}"},
		{"upgrade_apply", map[string]any{"plan": "{}"}, "upgrade apply --output=json -- -", "{}"},
		{"etcd_snapshot", map[string]any{"file": "a.db"}, "etcd snapshot --output=json -- " + filepath.Join(files, "a.db"), ""},
		{"node_reset", map[string]any{"nodes": []string{"w"}, "yes": true, "wipe_mode": "all"}, "node reset --output=json --wipe-mode=all --yes=true --nodes=w", ""},
		{"talos_reboot", map[string]any{"node": "w"}, "node reboot --output=json --nodes=w", ""},
		{"talos_get", map[string]any{"resource_type": "members"}, "get --output=json -- members", ""},
		{"talos_reset", map[string]any{"node": "w", "confirm": true}, "node reset --output=json --yes=true --nodes=w", ""},
	} {
		doc, res := b.call(t, c.tool, c.args)
		if got := r.last(); got != head+c.want || r.stdin != c.stdin {
			t.Errorf("%s %v:\n got %q (stdin %q)\nwant %q", c.tool, c.args, got, r.stdin, head+c.want)
		}

		if res.IsError || doc.Exit != "ok" || (doc.Schema == "") != (c.args["query"] != nil) {
			t.Errorf("%s: %s", c.tool, texts(res))
		}
	}
}

// TestWrongArguments: what the schema does not have runs nothing.
func TestWrongArguments(t *testing.T) {
	t.Parallel()

	r := &recorder{}
	files := t.TempDir()

	if err := os.Symlink("/etc/passwd", filepath.Join(files, "link")); err != nil {
		t.Fatal(err)
	}

	b := start(t, r.run, nil, "--allow-changes", "--files", files)

	for _, c := range []struct {
		tool string
		args map[string]any
		want string
	}{
		{"get", nil, "type is missing"},
		{"get", map[string]any{"type": "x", "talosconfig": "/tmp/x"}, "its arguments: type"},
		{"get", map[string]any{"type": "x", "output": "jsonpath-file=/etc/passwd"}, "no argument"},
		{"get", map[string]any{"type": "x", "endpoints": []string{"h"}}, "no argument"},
		{"get", map[string]any{"type": "x", "show_secrets": true}, "no argument"},
		{"get", map[string]any{"type": "x", "insecure": true}, "no argument"},
		{"get", map[string]any{"type": "x", "context": "other"}, "no argument"},
		{"get", map[string]any{"type": map[string]any{}}, "must be a text"},
		{"get", map[string]any{"type": []string{"a", "b"}}, "must be a text"},
		{"logs", map[string]any{"service": "x", "tail": "many"}, "must be a number"},
		{"logs", map[string]any{"service": "x", "tail": 1.5}, "must be a number"},
		{"health", map[string]any{"scope": "universe"}, "one of talos"},
		{"health", map[string]any{"nodes": []string{"@everyone"}}, "no set of nodes"},
		{"upgrade_apply", map[string]any{"gate_command": []string{"id"}}, "no argument"},
		{"upgrade_apply", map[string]any{"plan": "talosmate://results/99"}, "no resource"},
		{"upgrade_kubernetes", map[string]any{"talosctl": "/tmp/evil"}, "no argument"},
		{"etcd_snapshot", map[string]any{"file": "../x"}, "not the name of a file"},
		{"etcd_snapshot", map[string]any{"file": "/etc/x"}, "not the name of a file"},
		{"etcd_snapshot", map[string]any{"file": ".bashrc"}, "not the name of a file"},
		{"etcd_snapshot", map[string]any{"file": "link"}, "is a link"},
		{"factory_versions", map[string]any{"factory": "http://169.254.169.254"}, "no argument"},
	} {
		doc, res := b.call(t, c.tool, c.args)
		if !res.IsError || doc.ExitCode != 2 || !strings.Contains(texts(res), c.want) {
			t.Errorf("%s %v: want %q\n%s", c.tool, c.args, c.want, texts(res))
		}
	}

	if got := r.last(); got != "" {
		t.Errorf("%q was run", got)
	}
}

// TestReadOnly: without --allow-changes no change is offered, and one that is called all the same is refused.
func TestReadOnly(t *testing.T) {
	t.Parallel()

	r := &recorder{answer: `{"schema":"talosmate/v1/X","items":[],"errors":[]}`}
	b := start(t, r.run, nil, "--contexts", "prod", "--allow-nodes", "10.0.0.0/24,worker-1")

	for tool, err := range b.Tools(t.Context(), nil) {
		if err != nil || !tool.Annotations.ReadOnlyHint {
			t.Errorf("%s is offered (%v)", tool.Name, err)
		}
	}

	doc, res := b.call(t, "node_reboot", map[string]any{"nodes": []string{"worker-1"}})
	if doc.ExitCode != 5 || !res.IsError || doc.Errors[0].Gate != "TM111" || !strings.Contains(doc.Errors[0].Hint, "--allow-changes") || r.last() != "" {
		t.Errorf("%s, ran %q", texts(res), r.last())
	}

	b.call(t, "node_reboot", map[string]any{"nodes": []string{"worker-1"}, "dry_run": true})

	if got := r.last(); got != "node reboot --output=json --read-only=true --context=prod --dry-run=true --nodes=worker-1" {
		t.Errorf("a preview: %q", got)
	}

	if l := r.limits; !l.NoFiles || !slices.Equal(l.Nodes, []string{"10.0.0.0/24", "worker-1"}) || !slices.Equal(l.Contexts, []string{"prod"}) {
		t.Errorf("limits %+v", l)
	}

	if _, err := b.CallTool(t.Context(), &sdk.CallToolParams{Name: "kubeconfig"}); err == nil {
		t.Error("kubeconfig is a tool")
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()

	r := &recorder{answer: `{"schema":"talosmate/v1/X","items":[],"errors":[]}`}
	b := start(t, r.run, nil)

	for code, failure := range map[int]bool{0: false, 3: false, 1: true, 4: true, 6: true, 124: true} {
		r.code = code

		doc, res := b.call(t, "members", nil)
		if doc.ExitCode != code || doc.Exit != errs.Code(code).Name() || res.IsError != failure || doc.Items == nil {
			t.Errorf("%d: %s", code, texts(res))
		}
	}
}

// TestLongResults: a long list is cut to whole items, and the whole of it is a resource.
func TestLongResults(t *testing.T) {
	t.Parallel()

	var items []string
	for i := range 500 {
		items = append(items, fmt.Sprintf(`{"node":"10.0.0.1","n":%d,"text":"%s"}`, i, strings.Repeat("x", 50)))
	}

	r := &recorder{answer: `{"schema":"talosmate/v1/X","items":[` + strings.Join(items, ",") + `],"errors":[]}`}
	b := start(t, r.run, nil, "--max-bytes", "8192")

	doc, res := b.call(t, "members", nil)
	whole := texts(res)

	if len(doc.Items) == 0 || len(doc.Items) >= 500 || !strings.Contains(string(doc.Cut), `"items":500`) || !strings.Contains(whole, "link talosmate://results/1") {
		t.Fatalf("%d items, %s", len(doc.Items), doc.Cut)
	}

	if n := len(strings.SplitN(whole, "\n", 2)[0]); n > 8192 {
		t.Errorf("%d bytes", n)
	}

	kept, err := b.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "talosmate://results/1"})
	if err != nil || kept.Contents[0].Text != r.answer {
		t.Errorf("%v", err)
	}

	r.answer = `{"schema":"talosmate/v1/X","result":{"a":"` + strings.Repeat("x", 9000) + `","b":1},"errors":[]}`

	if doc, _ = b.call(t, "describe", nil); !strings.Contains(string(doc.Cut), `"fields":{"a":9002,"b":1}`) {
		t.Errorf("%s", doc.Cut)
	}

	r.answer = strings.Repeat("é", 9000)

	doc, _ = b.call(t, "members", map[string]any{"query": ".x"})
	if text, _ := doc.Output.(string); doc.Cut == nil || !strings.HasPrefix(r.answer, text) || text == "" {
		t.Errorf("%s", doc.Cut)
	}

	// What is kept is bounded: the oldest results disappear.
	for range 20 {
		b.call(t, "members", map[string]any{"query": ".x"})
	}

	if _, err = b.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "talosmate://results/1"}); err == nil {
		t.Error("the first result is still there")
	}

	n := 0
	for range b.Resources(t.Context(), nil) {
		n++
	}

	if n != 16 {
		t.Errorf("%d results are kept", n)
	}

	// A document beyond all bounds is an error, with the exit code kept.
	r.answer = `{"schema":"talosmate/v1/X","items":["` + strings.Repeat("x", 9<<20) + `"]}`

	if doc, _ = b.call(t, "members", nil); doc.ExitCode != 0 || len(doc.Errors) != 1 || doc.Errors[0].Code != "too_much" {
		t.Errorf("%+v", doc)
	}
}

// TestPanics: a panic ends one call.
func TestPanics(t *testing.T) {
	t.Parallel()

	b := start(t, func(_ context.Context, args []string, io *iostreams.Streams, _ cmdutil.Limits) int {
		if slices.Contains(args, "version") {
			fmt.Fprint(io.Out, `{"schema":"talosmate/v1/X","items":[],"errors":[]}`)

			return 0
		}

		panic("boom")
	}, nil, "--allow-changes")

	for tool, code := range map[string]int{"members": 1, "node_cordon": 7} {
		doc, res := b.call(t, tool, nil)
		if !res.IsError || doc.ExitCode != code || !strings.Contains(texts(res), "boom") {
			t.Errorf("%s: %s", tool, texts(res))
		}
	}

	if doc, res := b.call(t, "version", nil); doc.ExitCode != 0 {
		t.Errorf("afterwards: %s", texts(res))
	}
}

// TestCancelled: a call that the client cancels is interrupted as by Ctrl-C, and the next result says how it ended.
func TestCancelled(t *testing.T) {
	t.Parallel()

	undone := make(chan error, 1)
	b := start(t, func(ctx context.Context, args []string, io *iostreams.Streams, limits cmdutil.Limits) int {
		if slices.Contains(args, "version") {
			fmt.Fprint(io.Out, `{"schema":"talosmate/v1/X","items":[],"errors":[]}`)

			return 0
		}

		limits.Progress.Emit(progress.Event{Node: "worker-1", Stage: "drain", Message: "evicting 3 pods"})
		<-ctx.Done()
		fmt.Fprint(io.Out, `{"schema":"talosmate/v1/X","items":[{"hint":"uncordoned"}],"errors":[]}`)
		undone <- context.Cause(ctx)

		return int(errs.ExitCode(context.Cause(ctx)))
	}, nil, "--allow-changes")

	ctx, cancel := context.WithCancel(t.Context())

	go func() {
		p := <-b.progress
		if !strings.Contains(p.Message, "worker-1: drain: evicting 3 pods") {
			t.Errorf("progress %+v", p)
		}

		cancel()
	}()

	params := &sdk.CallToolParams{Name: "node_reboot", Arguments: map[string]any{"nodes": []string{"worker-1"}}}
	params.SetProgressToken("p1")

	if _, err := b.CallTool(ctx, params); err == nil {
		t.Fatal("the call was not cancelled")
	}

	if cause := <-undone; errs.ExitCode(cause) != errs.Interrupted {
		t.Errorf("the command saw %v", cause)
	}

	// The notice is there once the command has ended, which its answer may precede by a moment.
	for range 1000 {
		_, res := b.call(t, "version", nil)
		if !strings.Contains(texts(res), "notice: ") {
			continue
		}

		if text := texts(res); !strings.Contains(text, "node_reboot was cancelled and ended with exit code 130 (interrupted); its result is talosmate://results/1") {
			t.Errorf("%s", text)
		}

		kept, err := b.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "talosmate://results/1"})
		if err != nil || !strings.Contains(kept.Contents[0].Text, `"exit_code":130`) || !strings.Contains(kept.Contents[0].Text, "uncordoned") {
			t.Errorf("%v %+v", err, kept)
		}

		return
	}

	t.Error("no result says that the call was broken off")
}

// TestClosedConnection: a client that goes away interrupts what runs, and the server waits for its undo.
func TestClosedConnection(t *testing.T) {
	t.Parallel()

	begun, undone := make(chan struct{}), make(chan error, 1)
	b := start(t, func(ctx context.Context, _ []string, _ *iostreams.Streams, _ cmdutil.Limits) int {
		close(begun)
		<-ctx.Done()
		undone <- context.Cause(ctx)

		return 130
	}, nil, "--allow-changes")

	go func() {
		_, _ = b.CallTool(t.Context(), &sdk.CallToolParams{Name: "node_reboot", Arguments: map[string]any{"nodes": []string{"w"}}})
	}()

	<-begun
	go b.hangUp()

	if cause := <-undone; errs.ExitCode(cause) != errs.Interrupted {
		t.Errorf("the command saw %v", cause)
	}
}

// TestNothingLocal runs the program itself: no argument reads a file or the environment of the operator's machine, and no
// request reaches a cluster for it.
func TestNothingLocal(t *testing.T) {
	t.Parallel()

	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte("machine: {token: hunter2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	cluster := replay.Start(t, "talos-v1.13.8", nil)
	b := start(t, nil, []string{"TALOSCONFIG=" + cluster.Talosconfig(t, "os:admin"), "SECRET=hunter2"}, "--allow-changes")

	for _, c := range []struct {
		tool string
		args map[string]any
	}{
		{"machineconfig_patch", map[string]any{"patch": []string{"@" + secret}, "dry_run": true}},
		{"machineconfig_patch", map[string]any{"patch": []string{secret}, "dry_run": true}},
		{"machineconfig_diff", map[string]any{"file": secret}},
		{"validate", map[string]any{"file": "@" + secret}},
		{"version", map[string]any{"query": fmt.Sprintf("load(%q)", secret)}},
		{"version", map[string]any{"query": "env(SECRET)"}},
		{"version", map[string]any{"query": "strenv(SECRET)"}},
		{"assert", map[string]any{"cel": []string{"env('SECRET') == ''"}}},
		{"schema", map[string]any{"command": []string{"../../" + secret}}},
		{"factory_schematic_id", map[string]any{"file": secret}},
		{"node_add", map[string]any{"file": secret, "dry_run": true}},
	} {
		if c.args["nodes"] == nil && c.tool != "schema" && c.tool != "validate" {
			c.args["nodes"] = []string{"10.5.0.2"}
		}

		doc, res := b.call(t, c.tool, c.args)
		if doc.ExitCode == 0 || strings.Contains(texts(res), "hunter2") {
			t.Errorf("%s %v: %s", c.tool, c.args, texts(res))
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"talosconfig from stdin": {[]string{"--talosconfig", "-"}, "the protocol does"},
		"an empty node":          {[]string{"--allow-nodes", ""}, "empty name"},
		"an empty context":       {[]string{"--contexts", ""}, "empty name"},
		"two contexts":           {[]string{"--contexts", "a", "--context", "b"}, "two answers"},
		"an unknown tool":        {[]string{"--tools", "helth"}, "no tool matches"},
		"a bad network":          {[]string{"--allow-nodes", "10.0.0.0/99"}, "bad network"},
		"few bytes":              {[]string{"--max-bytes", "10"}, "must be"},
		"changes, read only":     {[]string{"--allow-changes", "--read-only"}, "switched off"},
	} {
		var stdout, stderr bytes.Buffer

		home := t.TempDir()
		code := app.Run(t.Context(), append([]string{"mcp", "serve"}, c.args...), &iostreams.Streams{
			In: strings.NewReader(""), Out: &stdout, Err: &stderr, Env: func(key string) (string, bool) { return home, key == "HOME" },
		})

		if code != 2 || !strings.Contains(stderr.String(), c.want) || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", name, code, stdout.String(), stderr.String())
		}
	}
}
