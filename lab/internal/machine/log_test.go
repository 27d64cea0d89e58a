package machine_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/lab/internal/machine"
)

func TestLogTail(t *testing.T) {
	l := machine.NewLog([]byte("one\ntwo\nthree\n"))
	l.Generate(1000)
	l.Write([]byte("last but one\nlast\n")) //nolint:errcheck // in memory

	for tail, want := range map[int]int{-1: 1005, 0: 0, 1: 1, 2: 2, 500: 500, 5000: 1005} {
		raw, err := io.ReadAll(l.Reader(context.Background(), tail, false))
		if err != nil {
			t.Fatal(err)
		}

		if got := bytes.Count(raw, []byte("\n")); got != want {
			t.Errorf("tail %d: %d lines", tail, got)
		}

		if want > 0 && !strings.HasSuffix(string(raw), "last\n") {
			t.Errorf("tail %d ends with %q", tail, raw[max(0, len(raw)-20):])
		}
	}
}

func TestLogOfGigabytesCostsNothing(t *testing.T) {
	l := machine.NewLog(nil)
	l.Generate(1 << 25)

	if l.Size() != 4<<30 {
		t.Fatalf("%d bytes", l.Size())
	}

	buf := make([]byte, 200)
	if n, err := l.ReadAt(buf, 3<<30); n != 200 || err != nil {
		t.Fatalf("%d %v", n, err)
	}

	if !strings.Contains(string(buf), `"n":25165824,`) {
		t.Errorf("%q", buf)
	}
}

func TestLogFollow(t *testing.T) {
	l := machine.NewLog([]byte("before\n"))
	r := l.Reader(context.Background(), 0, true)

	go func() {
		l.Write([]byte("after\n")) //nolint:errcheck // in memory
		l.Close()
	}()

	raw, err := io.ReadAll(r)
	if err != nil || string(raw) != "after\n" {
		t.Errorf("%q %v", raw, err)
	}
}
