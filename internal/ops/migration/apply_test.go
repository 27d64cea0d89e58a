package migration_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/ops/migration"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var (
	errLost   = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}
	errRefuse = &errs.Error{Exit: errs.Failed, Kind: errs.KindFailed, Err: errors.New("invalid")}
)

// configs are configurations in the form of v1alpha1.
func configs(t *testing.T) (controlPlane, worker []byte) {
	t.Helper()

	input, err := generate.NewInput("lab", "https://10.0.0.1:6443", "1.35.4", generate.WithVersionContract(config.TalosVersion1_13), generate.WithInstallDisk("/dev/sda"))
	if err != nil {
		t.Fatal(err)
	}

	text := func(kind machine.Type) []byte {
		c, err := input.Config(kind)
		if err != nil {
			t.Fatal(err)
		}

		out, err := c.Bytes()
		if err != nil {
			t.Fatal(err)
		}

		return out
	}

	return text(machine.TypeControlPlane), text(machine.TypeWorker)
}

// site is a node that makes the same of every configuration, unless otherwise says so.
type site struct {
	*probe.Node

	m         *fake.Machine
	before    []byte
	down      bool   // Its API server does not come up with the migrated configuration.
	otherwise string // What it makes of the migrated configuration.
	manifests func(typ string, migrated bool) []talos.Resource
}

func newSite(name string, text []byte, controlPlane bool) *site {
	m := fake.NewMachine("v1.14.1")
	m.Name, m.Text, m.Links = "", text, []talos.Interface{{Name: "eth0", Type: "ether"}}
	fresh := func() (probe.API, probe.Close) { return m, func() error { return nil } }
	s := &site{m: m, before: text}
	s.Node = &probe.Node{
		Target: talos.Target{Address: "10.0.0." + name[len(name)-1:], Hostname: name}, Read: m, Change: m, Fresh: fresh, Bare: fresh, Now: time.Now, ControlPlane: controlPlane,
		Etcd: func(context.Context) (etcd.View, error) {
			return etcd.View{Known: true, Members: []etcd.Member{
				{ID: "1", Node: s.Target.Address, Healthy: true}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y", Healthy: true},
			}}, nil
		},
	}

	m.Render = func(text []byte, typ string) []talos.Resource {
		migrated := !bytes.Equal(text, s.before)

		switch typ {
		case "KernelParamSpecs.runtime.talos.dev":
			value := "1"
			if migrated && s.otherwise != "" {
				value = s.otherwise
			}

			return []talos.Resource{{Metadata: talos.ResourceMetadata{Namespace: "runtime", Type: typ, ID: "vm.swappiness"}, Spec: map[string]any{"value": value}}}
		case "StaticPods.kubernetes.talos.dev":
			return []talos.Resource{{
				Metadata: talos.ResourceMetadata{Namespace: "k8s", Type: typ, ID: "kube-apiserver"}, Spec: apiServerPod(migrated),
			}}
		case "StaticPodStatuses.kubernetes.talos.dev":
			ready := "True"
			if migrated && s.down {
				ready = "False"
			}

			return []talos.Resource{{
				Metadata: talos.ResourceMetadata{Namespace: "k8s", Type: typ, ID: "kube-system/kube-apiserver-" + name},
				Spec: map[string]any{
					"startTime":  fmt.Sprintf("%x", sha256.Sum256(text)),
					"conditions": []any{map[string]any{"type": "Ready", "status": ready}},
				},
			}}
		default:
			if s.manifests != nil {
				return s.manifests(typ, migrated)
			}

			return nil
		}
	}

	return s
}

func apiServerPod(migrated bool) map[string]any {
	flag, version, volumes := "--anonymous-auth=false", "1", []any{}
	if migrated {
		flag, version = "--authentication-config=/system/authentication-config.yaml", "2"
		volumes = append(volumes, map[string]any{"name": "ca-roots", "hostPath": map[string]any{"path": "/etc/ssl/certs"}})
	}

	return map[string]any{
		"metadata": map[string]any{"name": "kube-apiserver", "annotations": map[string]any{"talos.dev/config-version": version, "own": "x"}},
		"spec": map[string]any{
			"containers": []any{map[string]any{"name": "kube-apiserver", "command": []any{"/usr/local/bin/kube-apiserver", flag, "--secure-port=6443"}}},
			"volumes":    volumes,
		},
	}
}

func options(dir string) migration.Options {
	return migration.Options{Options: migrate.Options{To: "v1.14"}, Dir: dir, ReadyTimeout: 2 * time.Minute, SettleTime: 10 * time.Second}
}

func (s *site) apply(ctx context.Context, o migration.Options) (migration.Outcome, error) {
	out, err := migration.Apply(ctx, []*probe.Node{s.Node}, o, progress.Discard{})

	return out[0], err
}

// recorded reports whether a record of an unfinished migration is there.
func recorded(t *testing.T, dir string) bool {
	t.Helper()

	found, err := filepath.Glob(filepath.Join(dir, "*.migration.json"))
	if err != nil {
		t.Fatal(err)
	}

	return len(found) > 0
}

// kept checks that the former configuration is in a file that only its owner may read, and in no other.
func (s *site) kept(t *testing.T, file string) {
	t.Helper()

	text, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(text, s.before) {
		t.Errorf("%q is not the former configuration: %v", file, err)
	}

	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()

	controlPlane, worker := configs(t)

	for _, c := range []struct {
		name     string
		worker   bool
		set      func(*site)
		want     runbook.Status
		code     errs.Code
		sent     int
		migrated bool // What the node has in the end.
		recorded bool // A later run has something to finish.
	}{
		{"a control plane", false, func(*site) {}, runbook.OK, errs.OK, 1, true, false},
		{"a worker", true, func(*site) {}, runbook.OK, errs.OK, 1, true, false},
		{"the answer is lost and it arrived", true, func(s *site) { s.m.LoseReply["apply"] = errLost }, runbook.OK, errs.OK, 1, true, false},
		{"the request is lost", true, func(s *site) { s.m.Fail["apply"] = errLost }, runbook.Unknown, errs.Unknown, 1, false, true},
		{"the node refuses it", true, func(s *site) { s.m.Fail["apply"] = errRefuse }, runbook.Failed, errs.Failed, 1, false, false},
		{"a reboot is needed", true, func(s *site) { s.m.NeedsReboot = true }, runbook.Refused, errs.Refused, 0, false, false},
		{"it is taken and not done", true, func(s *site) { s.m.Ignore = true }, runbook.RolledBack, errs.RolledBack, 1, false, false},
		{"the node makes something else of it", true, func(s *site) { s.otherwise = "2" }, runbook.RolledBack, errs.RolledBack, 2, false, false},
		{"the API server stays down", false, func(s *site) { s.down = true }, runbook.RolledBack, errs.RolledBack, 2, false, false},
		{"the machine becomes unhealthy", true, func(s *site) {
			s.m.StatusAs = func(context.Context) (talos.MachineStatus, error) {
				return talos.MachineStatus{Stage: "running", Ready: s.m.Count("apply") != 1}, nil
			}
		}, runbook.RolledBack, errs.RolledBack, 2, false, false},
		{"the way back is refused", false, func(s *site) {
			s.down = true
			s.m.During["apply"] = func() { s.m.Fail["apply"] = errRefuse }
		}, runbook.VerifyFailed, errs.Lost, 2, true, true},
		{"the way back is lost", false, func(s *site) {
			s.down = true
			s.m.During["apply"] = func() { s.m.Fail["apply"] = errLost }
		}, runbook.Unknown, errs.Unknown, 2, true, true},
		{"unhealthy before", true, func(s *site) { s.m.Stage.Ready = false }, runbook.Refused, errs.Refused, 0, false, false},
		{"no quorum", false, func(s *site) {
			s.Etcd = func(context.Context) (etcd.View, error) {
				return etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Node: "10.0.0.1", Healthy: true}, {ID: "2", Node: "x"}, {ID: "3", Node: "y", Healthy: true}}}, nil
			}
		}, runbook.Refused, errs.Refused, 0, false, false},
		{"an older release", true, func(s *site) { s.m.Running.Tag = "v1.13.9" }, runbook.Refused, errs.Refused, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				text := controlPlane
				if c.worker {
					text = worker
				}

				dir := t.TempDir()
				s := newSite("node-1", text, !c.worker)
				c.set(s)

				got, err := s.apply(t.Context(), options(dir))
				if got.Status != c.want || errs.ExitCode(err) != c.code {
					t.Fatalf("%s, exit %d: %v", got.Status, errs.ExitCode(err), err)
				}

				if n := s.m.Count("apply"); n != c.sent {
					t.Errorf("sent %d times", n)
				}

				if migrated := !bytes.Equal(s.m.Text, s.before); migrated != c.migrated {
					t.Errorf("migrated: %t", migrated)
				}

				if recorded(t, dir) != c.recorded {
					t.Errorf("recorded: %t", !c.recorded)
				}

				if c.sent > 0 {
					s.kept(t, got.RestoreFile)

					if want := "talosmate machineconfig apply -n 10.0.0.1 -f " + got.RestoreFile; got.RestoreCommand != want {
						t.Errorf("%q", got.RestoreCommand)
					}
				}

				if got.Restored != (c.want == runbook.RolledBack) {
					t.Errorf("restored: %t", got.Restored)
				}
			})
		})
	}
}

// What an interruption leaves, the next run finishes: a node that has the configuration is verified, not sent it again.
func TestResume(t *testing.T) {
	t.Parallel()

	controlPlane, _ := configs(t)

	for _, c := range []struct {
		name    string
		during  func(*site, func())
		sent    int // By both runs.
		resumed bool
		then    func(*site)
		want    runbook.Status
	}{
		{"before it was sent", func(s *site, kill func()) { s.m.During["apply"] = nil; s.Etcd = killing(s.Etcd, kill) }, 1, false, nil, runbook.OK},
		{"while it was sent", func(s *site, kill func()) { s.m.During["apply"] = kill }, 1, true, nil, runbook.OK},
		{"while it was verified", func(s *site, kill func()) { s.m.During["apply"] = func() { time.AfterFunc(5*time.Second, kill) } }, 1, true, nil, runbook.OK},
		{
			"and it is not the same", func(s *site, kill func()) { s.m.During["apply"] = func() { time.AfterFunc(5*time.Second, kill) } }, 2, true,
			func(s *site) { s.down = true }, runbook.RolledBack,
		},
		{
			"while the former one was restored", func(s *site, kill func()) {
				s.down = true
				s.m.During["apply"] = func() { s.m.During["apply"] = kill }
			}, 3, false,
			func(s *site) { s.down = false }, runbook.OK,
		},
		{"restored by hand", func(s *site, kill func()) { s.m.During["apply"] = kill }, 2, false, func(s *site) { s.m.Text = s.before }, runbook.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			for name, start := range map[string]func(context.Context) (context.Context, func()){
				"killed": fake.Mortal,
				"interrupted": func(ctx context.Context) (context.Context, func()) {
					ctx, cancel := context.WithCancelCause(ctx)

					return ctx, func() { cancel(errs.New(errs.Interrupted, "interrupted")) }
				},
			} {
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					s := newSite("node-1", controlPlane, true)
					look := s.Etcd

					ctx, kill := start(t.Context())
					c.during(s, kill)

					first, err := s.apply(ctx, options(dir))
					if first.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted {
						t.Fatalf("%s: %s, exit %d: %v", name, first.Status, errs.ExitCode(err), err)
					}

					if first.Hint == "" {
						t.Errorf("%s: no hint", name)
					}

					s.Etcd, s.m.During = look, map[string]func(){}
					if c.then != nil {
						c.then(s)
					}

					got, err := s.apply(t.Context(), options(dir))
					if got.Status != c.want || got.Resumed != c.resumed {
						t.Fatalf("%s: %s, resumed %t: %v", name, got.Status, got.Resumed, err)
					}

					if n := s.m.Count("apply"); n != c.sent {
						t.Errorf("%s: sent %d times", name, n)
					}

					s.kept(t, got.RestoreFile)

					if recorded(t, dir) {
						t.Errorf("%s: a record is left", name)
					}

					if c.want != runbook.OK {
						return
					}

					if again, err := s.apply(t.Context(), options(dir)); again.Status != runbook.Unchanged || err != nil {
						t.Errorf("%s: %s, %v", name, again.Status, err)
					}
				})
			}
		})
	}
}

// killing ends the run where it looks at etcd.
func killing(look func(context.Context) (etcd.View, error), kill func()) func(context.Context) (etcd.View, error) {
	return func(ctx context.Context) (etcd.View, error) {
		kill()

		return look(ctx)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()

	_, worker := configs(t)
	dir := filepath.Join(t.TempDir(), "none")
	s := newSite("node-1", worker, false)
	o := options(dir)
	o.DryRun = true

	got, err := s.apply(t.Context(), o)
	if got.Status != runbook.Planned || err != nil || len(s.m.Calls) > 0 || !got.Result.Changed {
		t.Errorf("%s, %v, %v", got.Status, s.m.Calls, err)
	}

	if _, err := os.Stat(dir); err == nil {
		t.Error("a dry run writes files")
	}
}

// Control planes are first, and a failure keeps the nodes after it as they were.
func TestOrder(t *testing.T) {
	t.Parallel()

	controlPlane, worker := configs(t)

	synctest.Test(t, func(t *testing.T) {
		sites := []*site{newSite("worker-4", worker, false), newSite("cp-1", controlPlane, true), newSite("cp-2", controlPlane, true), newSite("cp-3", controlPlane, true)}
		sites[2].down = true

		var (
			nodes []*probe.Node
			begun []string
		)

		for _, s := range sites {
			nodes = append(nodes, s.Node)
			s.m.During["apply"] = func() { begun = append(begun, s.Target.Hostname) }
		}

		held := 0
		o := options(t.TempDir())
		sites[1].m.Name = "cp-1"
		o.Lock = func(context.Context) (clusterlock.Held, error) {
			held++

			return nil, errors.New("no")
		}
		o.Overrides = []string{"TM143"}

		out, err := migration.Apply(t.Context(), nodes, o, progress.Discard{})

		var got []string
		for _, one := range out {
			got = append(got, one.Target.Hostname+" "+string(one.Status))
		}

		if want := []string{"worker-4 not_started", "cp-1 ok", "cp-2 rolled_back", "cp-3 not_started"}; !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}

		if errs.ExitCode(err) != errs.Partial || !slices.Equal(begun, []string{"cp-1", "cp-2"}) || held != 1 {
			t.Errorf("exit %d, begun %v, locked %d times: %v", errs.ExitCode(err), begun, held, err)
		}

		if left := migration.NotBegun(out); strings.Join(left, " ") != "worker-4 cp-3" {
			t.Errorf("%v", left)
		}
	})
}

// Another run's lock keeps this one from the nodes.
func TestLocked(t *testing.T) {
	t.Parallel()

	_, worker := configs(t)
	s := newSite("node-1", worker, false)
	s.m.Name = "node-1"
	o := options(t.TempDir())
	o.Lock = func(context.Context) (clusterlock.Held, error) { return nil, errors.New("somebody else holds it") }

	got, err := s.apply(t.Context(), o)
	if got.Status != runbook.Refused || errs.ExitCode(err) != errs.Refused || len(s.m.Calls) > 0 {
		t.Errorf("%s, %v: %v", got.Status, s.m.Calls, err)
	}
}

// A run that verifies what an earlier one sent may have to restore the former configuration, and needs the lock too.
func TestResumeIsLocked(t *testing.T) {
	t.Parallel()

	controlPlane, _ := configs(t)

	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		s := newSite("node-1", controlPlane, true)
		s.m.Name = "node-1"

		ctx, kill := fake.Mortal(t.Context())
		s.m.During["apply"] = kill

		if first, err := s.apply(ctx, o); first.Status != runbook.Interrupted {
			t.Fatalf("%s: %v", first.Status, err)
		}

		s.m.During, s.down = map[string]func(){}, true
		o.Lock = func(context.Context) (clusterlock.Held, error) { return nil, errors.New("somebody else holds it") }

		got, err := s.apply(t.Context(), o)
		if got.Status != runbook.Refused || errs.ExitCode(err) != errs.Refused || s.m.Count("apply") != 1 || !recorded(t, o.Dir) {
			t.Errorf("%s, sent %d times: %v", got.Status, s.m.Count("apply"), err)
		}
	})
}

// A difference is named by its path, and never shows a value.
func TestDifferencesAreNamed(t *testing.T) {
	t.Parallel()

	controlPlane, _ := configs(t)

	synctest.Test(t, func(t *testing.T) {
		s := newSite("node-1", controlPlane, true)
		s.otherwise = "hunter2"

		got, err := s.apply(t.Context(), options(t.TempDir()))
		if err == nil || !strings.Contains(err.Error(), "KernelParamSpecs/vm.swappiness value") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}

		e := got.Equivalence
		if e == nil || !slices.Equal(e.Differences, []string{"KernelParamSpecs/vm.swappiness value"}) || len(e.Explained) != 4 {
			t.Errorf("%+v", e)
		}
	})
}
