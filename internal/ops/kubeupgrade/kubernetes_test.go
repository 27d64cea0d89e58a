package kubeupgrade

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// What talosctl upgrade-k8s prints, in the wording of Talos's sources (pkg/cluster/kubernetes).
const spoken = `automatically detected the lowest Kubernetes version 1.35.0
discovered controlplane nodes ["10.0.0.1"]
discovered worker nodes ["10.0.0.4"]
 > "10.0.0.1": Talos version 1.13.9 is compatible with Kubernetes version 1.35.4
 > "10.0.0.4": Talos version 1.13.9 is compatible with Kubernetes version 1.35.4
checking for removed Kubernetes component flags
checking for removed Kubernetes API resource versions
 > "10.0.0.1": pre-pulling registry.k8s.io/kube-apiserver:v1.35.4
updating "kube-apiserver" to version "1.35.4"
 > "10.0.0.1": starting update
 > update kube-apiserver: v1.35.0 -> 1.35.4
 > "10.0.0.1": machine configuration patched
 > "10.0.0.1": waiting for kube-apiserver pod update
 < "10.0.0.1": successfully updated
updating kubelet to version "1.35.4"
 > "10.0.0.1": starting update
 < "10.0.0.1": successfully updated
 > "10.0.0.4": starting update
 < "10.0.0.4": successfully updated
updating manifests
 > processing manifest Secret/kube-system/bootstrap-token
 < apply skipped: nothing to do
`

// fakeTalosctl is a script that says what talosctl says.
func fakeTalosctl(t *testing.T, script string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "talosctl")
	// Another process writes it: a descriptor of ours, open for writing, could be inherited by the child of a test
	// beside this one, and the script could not be run then.
	write := exec.CommandContext(t.Context(), "sh", "-c", `cat > "$0" && chmod 700 "$0"`, path)
	write.Stdin = strings.NewReader("#!/bin/sh\ncase $1 in version) printf 'Client:\\n\\tTag:         v1.14.1\\n'; exit;; esac\n" + script)

	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	return path
}

func kubernetesFleet() *rollout.Cluster {
	return &rollout.Cluster{
		Name: "prod", Now: time.Now,
		Members: []talos.Member{
			{NodeRef: talos.NodeRef{Node: "10.0.0.1", Hostname: "cp-1"}, Type: target.ControlPlane, TalosVersion: "v1.13.9"},
			{NodeRef: talos.NodeRef{Node: "10.0.0.4", Hostname: "worker-1"}, Type: "worker", TalosVersion: "v1.13.9"},
		},
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	talosctl := fakeTalosctl(t, `printf '%s\n' "$@" > `+dir+"/args\ncat >&2 <<'END'\n"+spoken+"END\n")

	var events []progress.Event

	res, err := Run(t.Context(), kubernetesFleet(), Options{
		To: "v1.35.4", Talosctl: talosctl, Arguments: []string{"--talosconfig", "x y", "--nodes", "10.0.0.1"}, Extra: []string{"--upgrade-kubelet=true"},
	}, fake.Sink(func(e progress.Event) { events = append(events, e) }))
	if err != nil {
		t.Fatal(err)
	}

	if res.Status != "ok" || res.ExitCode != 0 || res.From != "1.35.0" || res.To != "1.35.4" || len(res.Steps) != strings.Count(spoken, "\n") {
		t.Errorf("%+v", res)
	}

	if want := []string{"kube-apiserver on 10.0.0.1", "kubelet on 10.0.0.1", "kubelet on 10.0.0.4"}; !slices.Equal(res.Updated, want) {
		t.Errorf("updated %v", res.Updated)
	}

	at := slices.IndexFunc(res.Steps, func(s Step) bool { return s.Message == "machine configuration patched" })
	if at < 0 || res.Steps[at].Component != "kube-apiserver" || res.Steps[at].Node != "10.0.0.1" {
		t.Errorf("steps %+v", res.Steps)
	}

	if len(events) != len(res.Steps)+1 || events[0].Stage != "preflight" || events[13].Stage != "kube-apiserver" {
		t.Errorf("events %+v", events)
	}

	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if want := "--talosconfig\nx y\n--nodes\n10.0.0.1\nupgrade-k8s\n--to\n1.35.4\n--upgrade-kubelet=true\n"; err != nil || string(args) != want {
		t.Errorf("talosctl was given %q: %v", args, err)
	}
}

func TestKubernetesEnds(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name    string
		script  string
		arrange func(*rollout.Cluster, *Options)
		status  runbook.Status
		code    errs.Code
		exit    int
	}{
		{"fails", "echo 'error updating: timeout'; exit 1", nil, runbook.Failed, errs.Failed, 1},
		{"its own exit code", "exit 3", nil, runbook.Failed, errs.Negative, 3},
		{"dry run", `case "$*" in *--dry-run*) exit 0;; esac; exit 1`, func(_ *rollout.Cluster, o *Options) { o.DryRun = true }, runbook.Planned, errs.OK, 0},
		{"range", "exit 0", func(f *rollout.Cluster, _ *Options) { f.Members[1].TalosVersion = "v1.9.0" }, runbook.Refused, errs.Refused, -1},
		{"image missing", "exit 0", func(f *rollout.Cluster, _ *Options) {
			f.Image = func(context.Context, string) (string, error) { return "", registry.ErrNotFound }
		}, runbook.Refused, errs.Refused, -1},
		{"registry away", "exit 0", func(f *rollout.Cluster, _ *Options) {
			f.Image = func(context.Context, string) (string, error) { return "", registry.ErrUnreachable }
		}, runbook.OK, errs.OK, 0},
		{"certificate ends", "exit 0", func(f *rollout.Cluster, _ *Options) { f.Expires = time.Now().Add(time.Minute) }, runbook.Refused, errs.Refused, -1},
		{"lock held", "exit 0", func(f *rollout.Cluster, _ *Options) { f.Lock = heldBy("ann@host") }, runbook.Refused, errs.Refused, -1},
		{"lock held, overridden", "exit 0", func(f *rollout.Cluster, o *Options) {
			f.Lock, o.Overrides = heldBy("ann@host"), gate.Overrides{"TM143"}
		}, runbook.OK, errs.OK, 0},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()

			f, o := kubernetesFleet(), Options{To: "1.35.4", Talosctl: fakeTalosctl(t, tt.script)}
			if tt.arrange != nil {
				tt.arrange(f, &o)
			}

			res, err := Run(t.Context(), f, o, progress.Discard{})
			if res.Status != tt.status || errs.ExitCode(err) != tt.code || res.ExitCode != tt.exit {
				t.Errorf("status %q, exit code %d (talosctl's %d): %v", res.Status, errs.ExitCode(err), res.ExitCode, err)
			}

			if tt.exit == -1 && len(res.Command) > 0 {
				t.Errorf("it ran %v", res.Command)
			}
		})
	}
}

func TestKubernetesInterrupted(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancelCause(t.Context())
	talosctl := fakeTalosctl(t, "trap 'echo stopping; exit 1' INT\necho 'updating \"kube-apiserver\" to version \"1.35.4\"'\nwhile :; do sleep 0.05; done\n")

	res, err := Run(ctx, kubernetesFleet(), Options{To: "1.35.4", Talosctl: talosctl},
		fake.Sink(func(e progress.Event) {
			if e.Stage == "kube-apiserver" {
				cancel(errs.New(errs.Interrupted, "interrupted"))
			}
		}))
	if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted || res.Hint == "" {
		t.Errorf("%q, %v", res.Status, err)
	}
}

func TestFindTalosctl(t *testing.T) {
	t.Parallel()

	if _, err := FindTalosctl("/nonexistent/talosctl"); errs.ExitCode(err) != errs.Usage || len(errs.Hints(err)) == 0 {
		t.Errorf("%v", err)
	}
}

func heldBy(name string) clusterlock.Locker {
	return func(context.Context) (clusterlock.Held, error) {
		return nil, &kube.HeldError{State: kube.LockState{Held: true, Holder: name, Command: "talosmate upgrade apply", ExpiresAt: time.Now().Add(time.Minute)}}
	}
}

// A talosctl of an older minor release than a node would fail in the middle; it is not started.
func TestTalosctlTooOld(t *testing.T) {
	fleet := kubernetesFleet()
	for i := range fleet.Members {
		fleet.Members[i].TalosVersion = "v1.15.0"
	}

	talosctl := fakeTalosctl(t, "touch "+t.TempDir()+"/started\n")

	res, err := Run(t.Context(), fleet, Options{To: "1.35.4", Talosctl: talosctl}, progress.Discard{})
	if errs.ExitCode(err) != errs.Usage || res.Status != runbook.Refused || res.ExitCode != -1 {
		t.Errorf("status %q, talosctl's exit code %d: %v", res.Status, res.ExitCode, err)
	}

	if !strings.Contains(res.Error, "talosctl v1.14.1 is older than Talos v1.15.0") {
		t.Errorf("the error does not say why: %s", res.Error)
	}
}
