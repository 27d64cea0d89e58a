package upgrade

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

// TestValidityPasses: what is worth a word, or not even that, does not hold the upgrade up.
func TestValidityPasses(t *testing.T) {
	t.Parallel()

	denied := &errs.Error{Exit: errs.Unreachable, Kind: errs.KindPermissionDenied}

	for name, tt := range map[string]struct {
		arrange func(*bed)
		want    string
	}{
		"in sync":                    {func(*bed) {}, "TM138 pass"},
		"left alone":                 {func(b *bed) { b.node.Time, b.node.ClockOff = talos.TimeStatus{SyncDisabled: true}, 60 }, "TM138 skip"},
		"somewhat off":               {func(b *bed) { b.node.ClockOff = 2 }, "TM138 warn"},
		"its server does not answer": {func(b *bed) { b.node.Fail["clock"] = fake.ErrDown }, "TM138 warn"},
		"authorities are good":       {func(*bed) {}, "TM139 pass"},
		"one expires in a month":     {func(b *bed) { b.node.Config.Authorities[0].NotAfter = time.Now().Add(authorityWanted - time.Hour) }, "TM139 warn"},
		"no certificate":             {func(*bed) {}, "TM139 skip"},
		"a certificate for a while":  {func(b *bed) { b.world.Expires = time.Now().Add(11 * time.Minute) }, "TM139 pass"},
		"systemd-boot": {func(b *bed) {
			b.node.Sys.BootedUKI, b.node.Config.DroppedKernelArgs, b.node.Config.NoInstall = true, []string{"a=b"}, true
		}, "TM135 pass"},
		"no install section, to 1.13": {func(b *bed) { b.node.Config.NoInstall = true }, "TM135 pass"},
		"no right to look":            {func(b *bed) { b.node.Fail["config"] = denied }, "TM135 skip"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBed("v1.13.8")
				tt.arrange(b)

				res, err := b.run(t.Context(), options())
				if err != nil || res.Status != runbook.OK || !slices.Contains(verdictsOf(res), tt.want) {
					t.Errorf("%s, %v: %v", res.Status, verdictsOf(res), err)
				}
			})
		})
	}
}
