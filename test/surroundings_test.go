package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// plainReads are reads that run as they are on a lab of the default shape. FILE is a file that is written.
func plainReads() []string {
	return append(defaultReads(),
		"api-resources -n cp-1", "assert true", "commands", "config check", "config contexts", "config info", "container list -n cp-1", "container stats -n cp-1 --interval 10ms",
		"describe", "describe node -n cp-1", "dmesg -n cp-1", "etcd alarm list", "etcd downgrade validate 3.5 -n cp-1", "etcd snapshot -", "etcd restore-plan etcd.db", "etcd snapshot-status etcd.db", "etcd verify-snapshot etcd.db",
		"events -n cp-1 --tail 1", "fs cp /etc - -n cp-1", "fs read /etc/os-release -n cp-1", "gen secrets --output-file -", "gen config lab https://10.0.0.1:6443 --output-types worker --output-dir -",
		"kubeconfig -", "logs kubelet -n cp-1", "machineconfig get -n cp-1", "machineconfig rollout plan configs", "machineconfig rollout status configs", "node boot-audit", "network bgp -n cp-1", "network kubespan -n cp-1", "network capture lo -n cp-1 -w - --duration 10ms",
		"schema version", "state diff state.json state.json", "state save -", "storage lvm -n worker-1", "storage raid -n worker-1", "storage upkeep -n worker-1",
		"system modules -n cp-1", "system security -n cp-1", "support -n worker-1 -O -", "validate -f worker.yaml --mode metal", "wait --for etcd=healthy --controlplanes",
		"factory schematic id --extension siderolabs/iscsi-tools",
		"--help", "help gates", "service list --help", "completion bash")
}

// readsElsewhere are the reads that plainReads omits, and why.
func readsElsewhere() map[string]string {
	return map[string]string{
		"factory extensions": "asks the factory, in factory.txtar", "factory schematic create": "asks the factory", "factory schematic get": "asks the factory",
		"factory url": "asks the factory", "factory versions": "asks the factory",
		"imager extensions": "asks a registry", "imager overlays": "asks a registry", "imager profiles": "asks a registry",
		"mcp serve": "speaks a protocol on stdin and stdout, in TestMCP", "top": "wants a terminal, in TestTop",
	}
}

// surroundings are what is around a run: HOME, the limits of the process, and where its output goes.
func surroundings() map[string]surrounding {
	same := func(code errs.Code) errs.Code { return code }
	home := func(env ...string) func([]string) []string {
		return func(old []string) []string {
			return append(slices.DeleteFunc(slices.Clone(old), func(v string) bool { return strings.HasPrefix(v, "HOME=") || strings.HasPrefix(v, "XDG_") }), env...)
		}
	}

	return map[string]surrounding{
		// /proc is a directory in which nobody can make a file, not even root.
		"without a home, with 64 descriptors and no stdin": {shell: `ulimit -n 64; exec "$0" "$@" <&-`, env: home(), code: same},
		"in a home that cannot be written":                 {env: home("HOME=/proc", "XDG_STATE_HOME=/proc", "XDG_CACHE_HOME=/proc", "XDG_CONFIG_HOME=/proc"), code: same},
		"without stdout":                                   {shell: `exec "$0" "$@" >&-`, code: same, quiet: true},
		"without a reader":                                 {noReader: true, code: same, quiet: true},
		"with a full disk behind stdout": {
			shell: `exec "$0" "$@" >/dev/full`, says: "cannot write the output: no space left on device",
			code: func(errs.Code) errs.Code { return errs.Failed },
		},
	}
}

type surrounding struct {
	shell    string                    // Starts the program, which is $0 "$@".
	env      func([]string) []string   // Changes the environment.
	noReader bool                      // stdout is a pipe whose reader has left.
	quiet    bool                      // No error is written.
	says     string                    // Is on stderr.
	code     func(errs.Code) errs.Code // The exit code, from that of an undisturbed run.
}

// TestSurroundings checks that no read depends on a home, on many descriptors or on someone who reads it.
func TestSurroundings(t *testing.T) {
	t.Parallel()

	f := startLab(t)
	f.output("etcd", "snapshot", "etcd.db", "-n", "cp-1")
	f.output("state", "save", "state.json")
	f.write("worker.yaml", f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets"))

	if err := os.Mkdir(filepath.Join(f.dir, "configs"), 0o700); err != nil {
		t.Fatal(err)
	}

	f.write("configs/worker-1.yaml", f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets"))

	covered := map[string]bool{}

	reads := plainReads()
	slices.Sort(reads)

	for _, line := range slices.Compact(reads) {
		words := strings.Fields(line)
		for n := range 4 {
			covered[strings.Join(words[:min(n, len(words))], " ")] = true
		}

		t.Run(line, func(t *testing.T) {
			t.Parallel()

			code, text, stderr := f.around(t, surrounding{}, words)
			if code != errs.OK && code != errs.Negative {
				t.Fatalf("undisturbed it ends with %d: %s", code, stderr)
			}

			for name, s := range surroundings() {
				got, stdout, said := f.around(t, s, words)
				if s.says != "" && text == "" { // nothing is lost
					continue
				}

				if want := s.code(code); got != want {
					t.Errorf("%s it ends with %d, want %d: %s", name, got, want, said)
				}

				if s.quiet && code == errs.OK && strings.Contains(said, "error:") || !strings.Contains(said, s.says) {
					t.Errorf("%s it says %q", name, said)
				}

				if strings.Contains(said+stdout, "goroutine ") {
					t.Errorf("%s it panics: %s", name, said)
				}
			}
		})
	}

	for _, command := range readsOfTheTree(t) {
		if !covered[command] && readsElsewhere()[command] == "" {
			t.Errorf("`talosmate %s` reads something, and plainReads has no line for it", command)
		}
	}
}

// around runs a read in its surroundings.
func (f *fleet) around(t *testing.T, s surrounding, words []string) (code errs.Code, said, stderr string) {
	t.Helper()

	program := append([]string{filepath.Join(f.bin, "talosmate")}, words...)
	if s.shell != "" {
		program = append([]string{"sh", "-c", s.shell}, program...)
	}

	cmd := exec.CommandContext(t.Context(), program[0], program[1:]...)
	cmd.Dir, cmd.Env = f.dir, f.env

	if s.env != nil {
		cmd.Env = s.env(f.env)
	}

	var stdout, errors bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &errors

	if s.noReader {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}

		in.Close()
		defer out.Close()

		cmd.Stdout = out
	}

	_ = cmd.Run() // the exit code says how it ended

	return errs.Code(cmd.ProcessState.ExitCode()), stdout.String(), errors.String()
}

// TestFullDisk checks that a file is written whole or not at all, and that the error names it.
func TestFullDisk(t *testing.T) {
	t.Parallel()

	f := startLab(t, "--workers", "1", "--controlplanes", "1")
	f.output("etcd", "snapshot", "etcd.db", "-n", "cp-1")
	f.write("worker.yaml", f.output("machineconfig", "get", "-n", "worker-1", "--show-secrets"))

	for line, file := range map[string]string{
		"etcd snapshot FILE": "FILE", "fs cp /etc FILE -n cp-1": "", "kubeconfig FILE": "FILE", "config new FILE --roles os:reader -n cp-1": "FILE",
		"state save FILE": "FILE", "support -n worker-1 -O FILE": "FILE", "gen secrets --output-file FILE": "FILE",
		"gen config lab https://10.0.0.1:6443 --output-types worker --output-dir FILE": "worker.yaml",
		"network capture lo -n cp-1 -w FILE --duration 10ms":                           "FILE", "config use admin --talosconfig FILE": "",
		"factory schematic id --extension siderolabs/iscsi-tools --save FILE": "FILE",
		"describe --report FILE": "FILE", "service restart kubelet -n worker-1 --audit-log FILE": "FILE",
		"node reboot -n worker-1 --audit-log FILE": "FILE",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()

			dir := t.TempDir()
			name := filepath.Join(dir, "it")

			code, stdout, stderr := f.around(t, surrounding{shell: `ulimit -f 0; exec "$0" "$@"`}, strings.Fields(strings.ReplaceAll(line, "FILE", name)))
			if code == errs.OK || code > errs.Usage {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}

			if want := strings.ReplaceAll(file, "FILE", name); !strings.Contains(stderr, want) || strings.Contains(stderr, ".tmp-") {
				t.Errorf("it says %q, which does not name %s", stderr, want)
			}

			for _, left := range filesIn(dir) {
				if info, err := os.Stat(filepath.Join(dir, left)); err != nil || info.Size() > 0 || !strings.Contains(line, "--audit-log") {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}
