package runbook_test

import (
	"context"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// A step that panics fails its run: nothing of the run is lost, and its outcome is unknown once something was changed.
func TestStepsThatPanic(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		before func(*runbook.Run)
		status runbook.Status
		code   errs.Code
		text   string
	}{
		"before a change":   {func(*runbook.Run) {}, runbook.Failed, errs.Failed, "cannot test cp-1: internal error: a bug"},
		"after a change":    {(*runbook.Run).BeforeChange, runbook.Unknown, errs.Unknown, "cannot test cp-1: internal error: a bug"},
		"sent by a former":  {func(r *runbook.Run) { r.Sent = true }, runbook.Unknown, errs.Unknown, "cannot test cp-1: internal error: a bug"},
		"the status is set": {func(r *runbook.Run) { r.Status = runbook.RolledBack }, runbook.RolledBack, errs.RolledBack, "internal error: a bug"},
	} {
		rec := runbook.NewRecord()
		r := &runbook.Run{Verb: "test", Target: talos.Target{Hostname: "cp-1"}, Now: time.Now, Sink: progress.Discard{}, Rec: &rec}
		r.Start()

		err := r.Finish(t.Context(), r.Steps(t.Context(), func(context.Context) error {
			c.before(r)
			panic("a bug")
		}))

		if r.Status != c.status || errs.ExitCode(err) != c.code || rec.Error != c.text {
			t.Errorf("%s: %s, %v, %q", name, r.Status, err, rec.Error)
		}
	}
}
