package commands_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// kubernetesUsers lists the command lines that use the admin kubeconfig of a node, by the file that asks for it. A file
// that asks for one and is missing here fails the test.
func kubernetesUsers(dir string) map[string][][]string {
	const worker = "10.5.0.5"

	out := filepath.Join(dir, "out")
	return map[string][][]string{
		"cluster/health.go":        {{"health"}},
		"cluster/fleet.go":         {{"describe"}, {"describe", "node", worker}, {"state", "save", out + ".state"}},
		"cluster/support_reads.go": {{"support", "-n", worker, "-O", out + ".zip", "-o", "json"}},
		"etcd/verify_snapshot.go": {
			{"etcd", "verify-snapshot", "etcd/testdata/snapshot.db", "--live"}, {"etcd", "restore-plan", "etcd/testdata/snapshot.db"},
		},
		"image/pods.go": {{"image", "prune", "-n", worker, "--dry-run"}, {"image", "list", "-n", worker, "--unused"}},
		"kubeconfig/kubeconfig.go": {
			{"kubeconfig", "-"},
			{"kubeconfig", "-", "--context-name", "x"},
			{"kubeconfig", out + ".kubeconfig"},
			{"kubeconfig", "--merge"},
			{"kubeconfig", out + ".merged", "--merge", "--rename"},
		},
		"node/act.go": {{"node", "reboot", "-n", worker, "--drain", "--dry-run"}, {"node", "remove", "-n", worker, "--dry-run"}},
		"node/schedule.go": {
			{"node", "drain", "-n", worker, "--dry-run"}, {"node", "cordon", "-n", worker, "--dry-run"}, {"node", "uncordon", "-n", worker, "--dry-run"},
		},
		"upgrade/access.go": {
			{"upgrade", "status"},
			{"upgrade", "plan", "-n", worker, "--to", "v1.13.9", "--check-images=false"},
			{"upgrade", "apply", "-n", worker, "--to", "v1.13.9", "--dry-run", "--check-images=false"},
		},
		"upgrade/impact.go": {{"upgrade", "impact", "-n", worker, "--to", "v1.14.1", "--factory", "http://127.0.0.1:1"}},
		// The recorded cluster does not lead these as far as Kubernetes.
		"node/add.go": {}, "node/remove.go": {}, "node/replace.go": {}, "upgrade/gates.go": {},
	}
}

// TestKubeconfigOfANodeRunsNothing serves a kubeconfig with a credential plugin from every node: no command that uses
// it runs the plugin or writes it anywhere.
func TestKubeconfigOfANodeRunsNothing(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	users := kubernetesUsers(dir)

	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}

		source, err := os.ReadFile(path)
		if regexp.MustCompile(`\.(Kubernetes\((c\.Context\(\)|ctx)\)|AdminKubeconfig\()`).Match(source) && users[filepath.ToSlash(path)] == nil {
			t.Errorf("%s uses Kubernetes and is not in this test's table", path)
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	marker := filepath.Join(dir, "marker")
	plugin := "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: [-c, 'touch " + marker + "'], interactiveMode: Never}"
	kubeconfig := regexp.MustCompile(`(?s)client-certificate-data: .*`).ReplaceAllString(hostile.AdminKubeconfig(t), plugin+"\n")

	for file, lines := range users {
		for _, args := range lines {
			t.Run(strings.Join(args[:min(len(args), 3)], " "), func(t *testing.T) {
				t.Parallel()

				server := replay.Start(t, "talos-v1.13.8", map[string]string{"ImageService.List": "cri", "MachineService.Containers": "cri"})
				h := hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
				h.Kubeconfig(t, []byte(kubeconfig))

				for _, args := range [][]string{args, append(slices.Clone(args), "--read-only")} {
					got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, patient}, args...)

					if got.Code == 0 {
						t.Errorf("%v: exit code 0\n%s%s", args, got.Stdout, got.Stderr)
					}

					if said := got.Stdout + got.Stderr; !strings.Contains(said, "users[0].user.exec is not accepted") {
						t.Errorf("%v does not name the field:\n%s", args, said)
					}

					if file == "kubeconfig/kubeconfig.go" && (got.Code != 1 || got.Stdout != "") {
						t.Errorf("%v: exit code %d\n%s", args, got.Code, got.Stdout)
					}
				}

				if h.Calls(machine.MachineService_Kubeconfig_FullMethodName) == 0 {
					t.Errorf("%v did not ask for the kubeconfig", args)
				}

				if _, err := os.Stat(marker); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v ran the plugin", args)
				}
			})
		}
	}

	t.Cleanup(func() {
		written, _ := filepath.Glob(filepath.Join(dir, "out.*kubeconfig"))
		merged, _ := filepath.Glob(filepath.Join(dir, "out.merged*"))

		if all := slices.Concat(written, merged); len(all) > 0 {
			t.Errorf("files were written: %v", all)
		}
	})
}
