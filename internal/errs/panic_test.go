package errs_test

import (
	"errors"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

func TestGroupPanicsInItsCaller(t *testing.T) {
	done := false

	err := errs.Safely(func() error {
		var g errs.Group

		g.Go(func() { panic("one") })
		g.Go(func() { done = true })
		g.Wait()

		return nil
	})

	var p *errs.Panic
	if !errors.As(err, &p) || p.Value != "one" || len(p.Stack) == 0 || !done {
		t.Errorf("got %v, the other finished: %t", err, done)
	}

	if errs.ExitCode(err) != errs.Failed {
		t.Errorf("exit code %d", errs.ExitCode(err))
	}
}
