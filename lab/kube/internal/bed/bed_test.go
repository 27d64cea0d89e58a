package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childRole makes the test binary play a part of the control plane.
const childRole = "KUBEBED_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "dies":
		fmt.Println("listen tcp: boom")
		os.Exit(3)
	case "waits":
		<-time.After(time.Minute)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		<-time.After(time.Minute)
	}
	os.Exit(m.Run())
}

func launch(t *testing.T, role string) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := newLauncher(t.Context(), executable, []string{childRole + "=" + role}, t.TempDir())
	p, err := l.start(t.Context(), "part", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func ended(t *testing.T, p *process) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the child still lives")
	}
}

func TestStopEndsAChildThatListens(t *testing.T) {
	p := launch(t, "waits")
	p.stop()
	ended(t, p)
}

func TestStopEndsAStoppedChild(t *testing.T) {
	p := launch(t, "waits")
	if err := p.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.stop()
	ended(t, p)
}

func TestStopInsists(t *testing.T) {
	p := launch(t, "deaf")
	// Only once it has said so is it sure to ignore the signal.
	eventually(t, func() bool { return tail(p.log, 1) == "deaf" })
	p.stop()
	ended(t, p)
	if !strings.Contains(fmt.Sprint(p.err), "killed") {
		t.Errorf("it ended with %v", p.err)
	}
}

func TestBedEndsWithItsFirstDeadChild(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Config{
		Executable: executable, Environment: []string{childRole + "=dies"},
		Dir: filepath.Join(t.TempDir(), "bed"), StartTimeout: time.Minute,
	}, func(context.Context, *Bed) error {
		t.Error("the bed was called ready")
		return nil
	})
	if !errors.Is(err, ErrChildDied) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v, want the child's exit status and last words", err)
	}
}

func TestBedGivesUpInTime(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Config{
		Executable: executable, Environment: []string{childRole + "=waits"},
		Dir: t.TempDir(), StartTimeout: 500 * time.Millisecond,
	}, func(context.Context, *Bed) error { return nil })
	if !errors.Is(err, ErrNotInTime) || !strings.Contains(err.Error(), "API server") {
		t.Errorf("got %v, want what was waited for", err)
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	b := &Bed{cfg: Config{Dir: filepath.Join(t.TempDir(), "bed")}}
	if err := b.prepareDir(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.makeCredentials(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(b.cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadNodes(t *testing.T) {
	const node = `{"name":"a","internal_ip":"127.0.1.2","labels":{"x":"y"}}`
	for name, tc := range map[string]struct {
		text string
		want int
		err  string
	}{
		"list":          {"[" + node + "]", 1, ""},
		"object":        {`{"nodes":[` + node + `]}`, 1, ""},
		"none":          {`[]`, 0, ""},
		"twice":         {"[" + node + "," + node + "]", 0, "twice"},
		"unknown field": {`[{"name":"a","ip":"127.0.1.2"}]`, 0, `unknown field "ip"`},
		"bad address":   {`[{"name":"a","internal_ip":"x"}]`, 0, "not an IP address"},
		"more":          {`[] []`, 0, "more than one"},
		"empty":         {``, 0, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadNodes(strings.NewReader(tc.text))
			if tc.err == "" && (err != nil || len(got) != tc.want) {
				t.Errorf("got %v, %v", got, err)
			}
			if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := freePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p] {
			t.Fatalf("%d twice", p)
		}
		seen[p] = true
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatal("not in 20 s")
		case <-tick.C:
		}
	}
}
