package commands_test

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// answered keeps what is written, and calls then when mark is in it.
type answered struct {
	bytes.Buffer

	mark string
	then func()
}

func (a *answered) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if strings.Contains(a.String(), a.mark) {
		a.then()
	}

	return n, err
}

// TestHostileTextInEveryForm prints what one hostile node says in every form there is. Nothing in it may be interpreted by a
// terminal, and in forms of one line for each row the node adds no line. Only an expression that picks single values prints them
// into a pipe as the node sent them.
func TestHostileTextInEveryForm(t *testing.T) {
	server := replay.Start(t, "talos-v1.13.8", map[string]string{"MachineService.Events": "tail", "MachineService.Logs": "etcd", "MachineService.Read": "os-release"})
	endpoint := hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
	endpoint.Spoil(func(s string) string {
		if strings.ContainsAny(s, " =") || len(s) > 40 || strings.Contains(s, "-") {
			return zoo + s + zoo
		}

		return s
	})

	dir := t.TempDir()

	start := func(tty bool, in io.Reader, out io.Writer, args ...string) (stderr string) {
		var errOut bytes.Buffer

		app.Run(t.Context(), args, &iostreams.Streams{
			In: in, Out: out, Err: &errOut, InTTY: tty, OutTTY: tty, ErrTTY: tty, Width: 200, Height: 50,
			Env: func(key string) (string, bool) {
				value, set := map[string]string{"TALOSCONFIG": endpoint.Talosconfig, "HOME": dir, "KUBECONFIG": filepath.Join(dir, "none"), "NO_COLOR": "1"}[key]

				return value, set
			},
		})

		return errOut.String()
	}

	run := func(tty bool, args ...string) (stdout, stderr string) {
		var out bytes.Buffer

		stderr = start(tty, strings.NewReader(""), &out, args...)

		return out.String(), stderr
	}

	reads := [][]string{{"service", "list"}, {"get", "services"}, {"members"}, {"network", "interfaces"}, {"version"}}

	for form, f := range map[string]struct {
		args []string
		raw  bool // Single values, as they are, into a pipe.
		rows bool // One line for each row.
	}{
		"table":          {rows: true},
		"wide":           {args: []string{"-o", "wide"}, rows: true},
		"name":           {args: []string{"-o", "name"}, rows: true},
		"json":           {args: []string{"-o", "json"}},
		"yaml":           {args: []string{"-o", "yaml"}},
		"ndjson":         {args: []string{"-o", "ndjson"}},
		"trace":          {args: []string{"-v"}, rows: true},
		"columns":        {args: []string{"-o", "custom-columns=ID:.id,MESSAGE:.last_message,ALL:.spec,NAME:.hostname,MODEL:.model"}, rows: true},
		"jsonpath":       {args: []string{"-o", "jsonpath={.items[*].last_message}{.items[*].spec}{.items[*].hostname}{.items[*].model}"}, raw: true},
		"go-template":    {args: []string{"-o", "go-template={{range .items}}{{.last_message}}{{.spec}}{{.hostname}}{{.model}}{{end}}"}, raw: true},
		"values":         {args: []string{"--query", ".items[] | (.last_message, .hostname, .model)"}, raw: true},
		"query":          {args: []string{"--query", ".items"}},
		"query, in YAML": {args: []string{"-o", "yaml", "--query", ".items[]"}},
		"annotations":    {args: []string{"--annotations", "github"}},
		"progress":       {args: []string{"--progress", "json"}},
	} {
		for _, read := range reads {
			for _, tty := range []bool{true, false} {
				args := append(append([]string{}, read...), append(f.args, "-n", "10.5.0.2", "--timeout", "5s")...)
				stdout, stderr := run(tty, args...)

				if bad := unwanted(stdout); bad != "" && (tty || !f.raw) {
					t.Errorf("%s, terminal %t: %v: stdout: %s", form, tty, args, bad)
				}

				if bad := unwanted(stderr); bad != "" {
					t.Errorf("%s, terminal %t: %v: stderr: %s", form, tty, args, bad)
				}

				for _, text := range []string{stdout, stderr} {
					if (f.rows || text == stderr) && strings.Contains("\n"+text, "\nerror: made up") {
						t.Errorf("%s, terminal %t: %v: the node wrote a line of its own:\n%s", form, tty, args, text)
					}
				}
			}
		}
	}

	// Pages, a bundle, and what an agent reads.
	page, bundle := filepath.Join(dir, "page.html"), filepath.Join(dir, "bundle.zip")
	files := map[string][]byte{}

	run(false, "health", "--report", page, "-n", "10.5.0.2", "--timeout", "5s")
	_, said := run(false, "support", "-n", "10.5.0.2", "--timeout", "10s", "--output-file", bundle)

	body, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}

	files[page] = body

	archive, err := zip.OpenReader(bundle)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}

	defer archive.Close()

	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}

		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}

	// The end of its input ends the server, so it stays open until the answer is there.
	in, ask := io.Pipe()
	answers := &answered{mark: `"id":2`, then: func() { _ = ask.Close() }}

	go func() {
		_, _ = io.WriteString(ask, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"service_list","arguments":{"nodes":["10.5.0.2"]}}}
`)
	}()

	start(false, in, answers, "mcp", "serve")

	if !strings.Contains(answers.String(), "made up") {
		t.Errorf("the tool shows nothing of the node: %s", answers.String())
	}

	files["MCP"] = answers.Bytes()

	for name, text := range files {
		if bad := unwanted(string(text)); bad != "" {
			t.Errorf("%s: %s", name, bad)
		}
	}

	if strings.Contains(string(files[page]), "<script") || len(files) < 5 {
		t.Errorf("%d files", len(files))
	}
}
