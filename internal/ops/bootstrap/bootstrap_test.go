package bootstrap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/bootstrap"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

var (
	errAway = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection refused")}
	errNo   = &errs.Error{Exit: errs.Failed, Kind: errs.KindAlreadyExists, Err: errors.New("etcd data directory is not empty")}
)

// fake is a control plane whose etcd is up three seconds after the request.
type fake struct {
	sent     int
	asked    time.Time
	uploaded bytes.Buffer
	upload   func(context.Context) error
	answer   error // Of the request.
	ignore   bool  // The request does not arrive.
	fails    bool  // etcd fails.
	stale    bool  // etcd failed before.
	silent   bool  // etcd never gets a leader.
}

func service(state, message string, at time.Time) talos.Service {
	return talos.Service{ID: "etcd", State: state, Events: []talos.ServiceEvent{{Time: at, State: state, Message: message}}}
}

func (f *fake) Service(context.Context, string) (talos.Service, error) {
	switch {
	case f.asked.IsZero() && f.stale:
		return service("failed", "an earlier attempt", time.Unix(0, 0)), nil
	case f.asked.IsZero():
		return service("preparing", "Running pre state", time.Unix(0, 0)), nil
	case f.fails:
		return service("failed", "no space", f.asked), nil
	case f.up():
		out := service("running", "Health check successful", f.asked)
		out.Health = "healthy"

		return out, nil
	default:
		return service("running", "Started task etcd", f.asked), nil
	}
}

func (f *fake) up() bool {
	return !f.asked.IsZero() && !f.silent && time.Since(f.asked) >= 3*time.Second
}

func (f *fake) EtcdStatus(context.Context) (talos.EtcdStatus, error) {
	if !f.up() {
		return talos.EtcdStatus{}, errAway
	}

	return talos.EtcdStatus{ID: "000000000000000a", LeaderID: "000000000000000a"}, nil
}

func (f *fake) Bootstrap(context.Context, bool, bool) error {
	f.sent++

	if !f.ignore {
		f.asked = time.Now()
	}

	return f.answer
}

func (f *fake) UploadSnapshot(ctx context.Context, from io.Reader, sent func(int64)) error {
	if f.upload != nil {
		sent(1)

		return f.upload(ctx)
	}

	n, err := io.Copy(&f.uploaded, from)
	sent(n)

	return err
}

func run(ctx context.Context, f *fake, o bootstrap.Options, snap *etcd.Snapshot) (bootstrap.Result, error) {
	target := talos.Target{Address: "1.1.1.1", Hostname: "cp-1", Type: target.ControlPlane}
	state, _ := f.Service(ctx, "etcd")

	res, err := bootstrap.Plan(target, []bootstrap.Peer{{Target: target, Service: state}}, snap, o)
	if err != nil {
		return res, err
	}

	return bootstrap.Run(ctx, f, res, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("snapshot")), nil }, o)
}

func options() bootstrap.Options {
	return bootstrap.Options{Wait: true, Timeout: time.Minute, Tell: progress.Discard{}, Begin: func() {}}
}

func TestRun(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		f    fake
		snap *etcd.Snapshot
		wait bool
		want runbook.Status
		code errs.Code
		took time.Duration // At most.
	}{
		{name: "new", wait: true, want: runbook.OK},
		{name: "from a snapshot", wait: true, snap: &etcd.Snapshot{SizeBytes: 8}, want: runbook.OK},
		{name: "the file changed", wait: true, snap: &etcd.Snapshot{SizeBytes: 9}, want: runbook.Failed, code: errs.Failed},
		{name: "not waited for", want: runbook.Requested},
		{name: "refused", f: fake{answer: errNo, ignore: true}, wait: true, want: runbook.Failed, code: errs.Failed},
		{name: "the answer is lost and it was done", f: fake{answer: errAway}, wait: true, want: runbook.OK},
		{name: "the answer is lost, not waited for", f: fake{answer: errAway}, want: runbook.Requested},
		{
			name: "the answer is lost and it was not done", f: fake{answer: errAway, ignore: true}, wait: true,
			want: runbook.Unknown, code: errs.Unknown, took: 40 * time.Second,
		},
		{
			name: "an earlier failure says nothing", f: fake{answer: errAway, ignore: true, stale: true}, wait: true,
			want: runbook.Unknown, code: errs.Unknown,
		},
		{name: "after an earlier failure", f: fake{stale: true}, wait: true, want: runbook.OK},
		{name: "etcd fails", f: fake{fails: true}, wait: true, want: runbook.Failed, code: errs.Failed, took: 5 * time.Second},
		{name: "no leader", f: fake{silent: true}, wait: true, want: runbook.NodeLost, code: errs.Lost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := c.f
				o := options()
				o.Wait = c.wait
				began := time.Now()

				res, err := run(t.Context(), &f, o, c.snap)
				if res.Status != c.want || errs.ExitCode(err) != c.code {
					t.Errorf("status %s, exit %d, want %s, %d: %v", res.Status, errs.ExitCode(err), c.want, c.code, err)
				}

				if seen := res.ServiceState + ": " + res.ServiceMessage; res.Status == runbook.OK && seen != "running: Health check successful" {
					t.Errorf("ok with etcd %s", seen)
				}

				if took := time.Since(began); c.took > 0 && took > c.took {
					t.Errorf("took %s", took)
				}

				if want := 1; c.want != runbook.Failed && f.sent != want {
					t.Errorf("sent %d times, want %d", f.sent, want)
				}
			})
		})
	}
}

// TestInterrupted cancels in every phase.
func TestInterrupted(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		f    fake
		snap *etcd.Snapshot
		sent int
		hint string
	}{
		{
			"in the upload", fake{upload: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, //nolint:nlreturn // short
			&etcd.Snapshot{SizeBytes: 8}, 0, "nothing was started",
		},
		{"in the wait", fake{silent: true}, nil, 1, "was requested and continues"},
		{"while a lost answer is read back", fake{answer: errAway, ignore: true}, nil, 1, "was requested and not answered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(2*time.Second, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })

				f := c.f

				res, err := run(ctx, &f, options(), c.snap)
				if res.Status != runbook.Interrupted || errs.ExitCode(err) != errs.Interrupted || !strings.Contains(res.Hint, c.hint) {
					t.Errorf("status %s, exit %d, hint %q: %v", res.Status, errs.ExitCode(err), res.Hint, err)
				}

				if f.sent != c.sent {
					t.Errorf("sent %d times, want %d", f.sent, c.sent)
				}
			})
		})
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()

	self := talos.Target{Address: "1.1.1.1", Hostname: "cp-1", Type: target.ControlPlane}
	other := talos.Target{Address: "2.2.2.2", Hostname: "cp-2", Type: target.ControlPlane}
	fresh := bootstrap.Peer{Target: self, Service: service("preparing", "Running pre state", time.Time{})}
	restarts := `Error running Containerd(etcd), going to restart forever: task "etcd" failed: exit code 1`

	for _, c := range []struct {
		name    string
		target  talos.Target
		peers   []bootstrap.Peer
		code    errs.Code
		verdict string
	}{
		{"nobody has a member", self, []bootstrap.Peer{fresh}, errs.OK, "pass"},
		{"a worker", talos.Target{Address: "1.1.1.1", Type: target.Worker}, []bootstrap.Peer{fresh}, errs.Usage, ""},
		{"the node cannot be asked", self, []bootstrap.Peer{{Target: self, Err: errAway}}, errs.Unreachable, ""},
		{"it runs without a quorum", self, []bootstrap.Peer{{Target: self, Service: service("running", "", time.Time{})}}, errs.Refused, ""},
		{"it ends again and again", self, []bootstrap.Peer{fresh, {Target: other, Service: service("waiting", restarts, time.Time{})}}, errs.Refused, ""},
		{"it waits", self, []bootstrap.Peer{fresh, {Target: other, Service: service("waiting", "Waiting for CRI", time.Time{})}}, errs.OK, "pass"},
		{"another one runs", self, []bootstrap.Peer{fresh, {Target: other, Service: service("running", "", time.Time{})}}, errs.Refused, ""},
		{"another one is silent", self, []bootstrap.Peer{fresh, {Target: other, Err: errAway}}, errs.OK, "warn"},
		{"another one failed", self, []bootstrap.Peer{fresh, {Target: other, Service: service("failed", "", time.Time{})}}, errs.OK, "warn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			res, err := bootstrap.Plan(c.target, c.peers, nil, options())
			if errs.ExitCode(err) != c.code {
				t.Errorf("exit %d, want %d: %v", errs.ExitCode(err), c.code, err)
			}

			if c.verdict != "" && string(res.Gates[0].Verdict) != c.verdict {
				t.Errorf("got %v, want %s", res.Gates, c.verdict)
			}
		})
	}
}
