package etcd_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/runbook"
)

// The answers of a cluster at 3.6, in etcd's own words.

func (a *actor) EtcdDowngradeValidate(_ context.Context, version string) (string, error) {
	a.fake.mu.Lock()
	defer a.fake.mu.Unlock()

	switch {
	case a.fake.downgrade != "" && strings.HasPrefix(a.status.StorageVersion, version):
		return "", errors.New("etcdserver: invalid downgrade target version")
	case a.fake.downgrade != "":
		return "", errors.New("etcdserver: cluster has a downgrade job in progress")
	case version != "3.5":
		return "", errors.New("etcdserver: invalid downgrade target version")
	default:
		return "3.6", nil
	}
}

func (a *actor) EtcdDowngradeEnable(_ context.Context, version string) (string, error) {
	return "3.6", a.do("enable", func() { a.fake.moveStorage(version) })
}

func (a *actor) EtcdDowngradeCancel(context.Context) (string, error) {
	return "3.5", a.do("cancel", func() { a.fake.moveStorage("") })
}

func (f *fake) moveStorage(target string) {
	storage := "3.6.0"
	if f.downgrade = target; target != "" {
		storage = target + ".0"
	}

	for i, n := range f.nodes {
		if i < 2 || !f.stuck {
			n.status.StorageVersion = storage
		}
	}
}

func lostCancel(f *fake) {
	f.moveStorage("3.5")
	f.lose = 1
}

func TestDowngrade(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name            string
		change          func(*fake)
		action, version string
		status          runbook.Status
		acts            []string
		code            errs.Code
	}{
		{"enable", func(*fake) {}, etcd.DowngradeEnable, "3.5", runbook.Done, []string{"enable cp-1"}, errs.OK},
		{"not one minor below", func(*fake) {}, etcd.DowngradeEnable, "3.4", runbook.Failed, nil, errs.Failed},
		{"in progress", func(f *fake) { f.downgrade = "3.5" }, etcd.DowngradeEnable, "3.5", runbook.Unchanged, nil, errs.OK},
		{"in effect", func(f *fake) { f.moveStorage("3.5") }, etcd.DowngradeEnable, "3.5", runbook.Unchanged, nil, errs.OK},
		{"lost answer", func(f *fake) { f.lose = 1 }, etcd.DowngradeEnable, "3.5", runbook.Done, []string{"enable cp-1"}, errs.OK},
		{"refused once", func(f *fake) { f.refuse = 1 }, etcd.DowngradeEnable, "3.5", runbook.Done, []string{"enable cp-1"}, errs.OK},
		{"one does not follow", func(f *fake) { f.stuck = true }, etcd.DowngradeEnable, "3.5", runbook.Done, []string{"enable cp-1"}, errs.Lost},
		{"cancel", func(f *fake) { f.moveStorage("3.5") }, etcd.DowngradeCancel, "", runbook.Done, []string{"cancel cp-1"}, errs.OK},
		{"cancel with a lost answer", lostCancel, etcd.DowngradeCancel, "", runbook.Done, []string{"cancel cp-1"}, errs.OK},
		{"validate", func(*fake) {}, etcd.DowngradeValidate, "3.5", runbook.Done, nil, errs.OK},
		{"validate in progress", func(f *fake) { f.downgrade = "3.5" }, etcd.DowngradeValidate, "3.5", runbook.Failed, nil, errs.Negative},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				c.change(f)

				node := f.sources[0].Target

				got, err := f.env().Prepare(t.Context(), f.view(t).PlanDowngrade(c.action, c.version), node)
				if err == nil && got.Status == runbook.Planned {
					got, err = f.env().Downgrade(t.Context(), got, node)
				}

				if code := errs.ExitCode(err); code != c.code || got.Status != c.status {
					t.Errorf("%q with code %d, want %q with %d: %v", got.Status, code, c.status, c.code, err)
				}

				if !slices.Equal(f.acts, c.acts) {
					t.Errorf("acts %v, want %v", f.acts, c.acts)
				}
			})
		})
	}
}
