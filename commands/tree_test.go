package commands_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// changes lists every command that changes a cluster, with what it needs besides nodes to get as far as the
// safety layer. A command that is missing here fails the test.
func changes(file string) map[string][]string {
	return map[string][]string{
		"bootstrap":                   {"--yes"},
		"config new":                  {"--dry-run=false", filepath.Join(filepath.Dir(file), "talosconfig")},
		"etcd alarm disarm":           {},
		"etcd defrag":                 {},
		"etcd downgrade cancel":       {},
		"etcd downgrade enable":       {"3.5"},
		"etcd forfeit-leadership":     {},
		"etcd leave":                  {"--yes"},
		"etcd remove-member":          {"n1", "--yes"},
		"etcd snapshot":               {filepath.Join(filepath.Dir(file), "snapshot.db")},
		"image prune":                 {"--apply"},
		"image pull":                  {"docker.io/library/nginx:1"},
		"image remove":                {"docker.io/library/nginx:1"},
		"machineconfig apply":         {"-f", file},
		"machineconfig edit":          {},
		"machineconfig migrate":       {"--apply"},
		"machineconfig patch":         {"-p", "machine: {}"},
		"machineconfig rollout apply": {filepath.Dir(file)},
		"network capture":             {"eth0"},
		"node add":                    {"-f", file},
		"node cordon":                 {},
		"node drain":                  {},
		"node reboot":                 {},
		"node remove":                 {"--yes"},
		"node replace":                {"n1", "--with", "10.5.0.9", "-f", file, "--yes"},
		"node reset":                  {"--yes"},
		"node rollback":               {},
		"node shutdown":               {},
		"node uncordon":               {},
		"node wipe":                   {"sdb", "--yes"},
		"service restart":             {"kubelet"},
		"service start":               {"kubelet"},
		"service stop":                {"kubelet"},
		"storage remove":              {"vg", "data", "--yes"},
		"upgrade apply":               {"--image", "ghcr.io/siderolabs/installer:v1.13.9"},
		"upgrade kubernetes":          {"--to", "1.35.4", "--talosctl", os.Args[0]},
		"upgrade node":                {"--image", "ghcr.io/siderolabs/installer:v1.13.9"},
	}
}

// walk calls fn for every command that can be run.
func walk(cmd *cobra.Command, fn func(path string, s cmdutil.Spec)) {
	if s, ok := cmdutil.SpecOf(cmd); ok {
		fn(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), s)
	}

	for _, child := range cmd.Commands() {
		walk(child, fn)
	}
}

// TestKubernetesFlag checks that -k, --kubernetes means the same in every command that has it, and that every command has it
// that can look at Kubernetes' part of a node or at Talos's own.
func TestKubernetesFlag(t *testing.T) {
	t.Parallel()

	want := []string{
		"container list", "container stats", "image list", "image prune", "image pull", "image remove", "logs", "network netstat",
	}

	var have []string

	runnable(newRoot(), func(cmd *cobra.Command, words []string) {
		path := strings.Join(words, " ")
		k, namespace := cmd.Flags().ShorthandLookup(cmdutil.KubernetesShorthand), cmd.Flags().Lookup("namespace")

		switch {
		case k != nil && k.Name == cmdutil.KubernetesFlag && k.Value.Type() == "bool":
			have = append(have, path)
		case k != nil || cmd.Flags().Lookup(cmdutil.KubernetesFlag) != nil:
			t.Errorf("%s: -k and --kubernetes are one flag, a switch", path)
		case namespace != nil && slices.Contains(cmdutil.Choices(namespace), talos.NamespaceCRI):
			t.Errorf("%s: --namespace without -k: use Flags.Containerd", path)
		}
	})

	if slices.Sort(have); !slices.Equal(have, want) {
		t.Errorf("commands with -k: %q, want %q", have, want)
	}
}

// TestChangesAreGuarded runs every change without nodes, under --read-only and with a certificate that may
// not: each is refused with its own code, and not one request reaches the cluster.
func TestChangesAreGuarded(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	admin, reader, nobody := server.Talosconfig(t, cmdutil.RoleAdmin), server.Talosconfig(t, cmdutil.RoleReader), server.Talosconfig(t, "os:nobody")

	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("version: v1alpha1\nmachine: {type: worker}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	needs := changes(file)

	io := &iostreams.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false }}
	seen := 0

	walk(commands.NewRoot(cmdutil.NewFactory(io, cmdutil.Build{})), func(path string, s cmdutil.Spec) {
		if s.Kind == cmdutil.Read || s.Offline || s.Local {
			return
		}

		args, known := needs[path]
		if !known {
			t.Errorf("%q changes something and is not in this test's table", path)

			return
		}

		seen++
		args = append(strings.Fields(path), args...)
		named := append(slices.Clone(args), "-n", "10.5.0.2")

		check := func(name, config string, code errs.Code, stderr string, args ...string) {
			t.Helper()

			got := clitest.Run(t, []string{"TALOSCONFIG=" + config}, args...)
			if got.Code != int(code) || !strings.Contains(got.Stderr, stderr) {
				t.Errorf("%s, %s: exit code %d, want %d with %q\n%s", path, name, got.Code, code, stderr, got.Stderr)
			}
		}

		if !s.Named {
			check("no nodes", admin, errs.Usage, "no nodes chosen", args...)
		}

		if s.OneNode {
			check("several nodes", admin, errs.Usage, "acts on exactly one node", append(slices.Clone(args), "-A")...)
		}

		check("read only", admin, errs.Refused, "TM111", append(slices.Clone(named), "--read-only")...)

		if may := slices.Contains(s.Roles, cmdutil.RoleReader); may {
			check("no role", nobody, errs.Refused, "TM110", named...)
		} else {
			check("a reader's certificate", reader, errs.Refused, "TM110", named...)
		}

		if s.Kind == cmdutil.Destructive {
			unconfirmed := slices.DeleteFunc(slices.Clone(named), func(a string) bool { return a == "--yes" })
			check("not confirmed", admin, errs.Refused, "TM112", unconfirmed...)
		}

		if n := server.Requests(); n > 0 {
			t.Fatalf("%s: %d requests reached the cluster", path, n)
		}
	})

	if seen < 20 {
		t.Errorf("only %d changes were found in the tree", seen)
	}
}
