package errs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

func failed(codes ...errs.Code) []*errs.Error {
	out := make([]*errs.Error, len(codes))
	for i, c := range codes {
		out[i] = errs.New(c, "node %d failed", i)
	}

	return out
}

func TestExitCode(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		err  error
		want errs.Code
	}{
		"nothing":                        {nil, errs.OK},
		"plain":                          {errors.New("x"), errs.Failed},
		"wrapped":                        {fmt.Errorf("a: %w", errs.Usagef("b")), errs.Usage},
		"some good, some bad":            {&errs.Nodes{Errors: failed(errs.Unreachable), Succeeded: 1}, errs.Partial},
		"all bad for one cause":          {&errs.Nodes{Errors: failed(errs.Unreachable, errs.Unreachable)}, errs.Unreachable},
		"all bad for several":            {&errs.Nodes{Errors: failed(errs.Refused, errs.Unreachable, errs.Failed)}, errs.Failed},
		"unknown before lost":            {&errs.Nodes{Errors: failed(errs.Lost, errs.Unknown)}, errs.Unknown},
		"lost before rolled back":        {&errs.Nodes{Errors: failed(errs.RolledBack, errs.Lost)}, errs.Lost},
		"all timed out":                  {&errs.Nodes{Errors: failed(errs.Timeout, errs.Timeout)}, errs.Timeout},
		"a question with a node missing": {&errs.Nodes{Errors: failed(errs.Unreachable), Succeeded: 4, Question: true}, errs.Negative},
		"interruption wins":              {errors.Join(&errs.Nodes{Errors: failed(errs.Unknown)}, errs.New(errs.Interrupted, "stop")), errs.Interrupted},
		"an undo that failed too":        {errors.Join(errs.New(errs.Lost, "away"), errors.New("cannot uncordon")), errs.Lost},
	} {
		if got := errs.ExitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestEntriesKeepEveryNodeAndHint(t *testing.T) {
	t.Parallel()

	err := errors.Join(
		&errs.Nodes{Errors: []*errs.Error{errs.New(errs.Unreachable, "a is away").OnNode("10.0.0.1").WithHint("look"), errs.New(errs.Failed, "b failed")}},
		errors.New("plain"),
	)

	entries := errs.Entries(err)
	if len(entries) != 3 || entries[0].Node != "10.0.0.1" || entries[0].Code != "unreachable" || entries[2].Message != "plain" {
		t.Errorf("entries %+v", entries)
	}

	if hints := errs.Hints(err); len(hints) != 1 || hints[0] != "look" {
		t.Errorf("hints %v", hints)
	}

	if errs.Entries(nil) == nil {
		t.Error("no errors must be an empty list, not null")
	}
}

func TestCodesAreTheContract(t *testing.T) {
	t.Parallel()

	want := map[errs.Code]string{
		0: "ok", 1: "failed", 2: "usage", 3: "negative", 4: "partial", 5: "refused", 6: "unreachable", 7: "unknown", 8: "rolled-back",
		9: "lost", 124: "timeout", 130: "interrupted",
	}

	if len(errs.Codes()) != len(want) {
		t.Errorf("%d codes, want %d", len(errs.Codes()), len(want))
	}

	for _, info := range errs.Codes() {
		if want[info.Code] != info.Name {
			t.Errorf("code %d is %q, want %q", info.Code, info.Name, want[info.Code])
		}
	}
}
