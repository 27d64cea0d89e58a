package faults_test

import (
	"testing"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

func TestBend(t *testing.T) {
	all, err := faults.Parse("wire=11")
	if err != nil {
		t.Fatal(err)
	}

	seen := map[string]int{}

	for n := range uint64(400) {
		for _, in := range []bool{true, false} {
			b := all.Bend(n, in)
			if b != all.Bend(n, in) {
				t.Fatalf("connection %d is not the same twice", n)
			}

			if b.Late > 0 {
				seen[faults.WireDelay]++
			}

			if b.Rate > 0 {
				seen[faults.WireSlow]++
			}

			seen[b.Strike]++
		}
	}

	for _, kind := range append(faults.WireKinds(), "") {
		if seen[kind] == 0 {
			t.Errorf("%q never happens: %v", kind, seen)
		}
	}

	only, err := faults.Parse("wire=11:reset")
	if err != nil {
		t.Fatal(err)
	}

	for n := range uint64(400) {
		was, b := all.Bend(n, true), only.Bend(n, true)
		if b.Late != 0 || b.Rate != 0 || b.At != was.At || (b.Strike != "") != (was.Strike != "") || b.Strike != "" && b.Strike != faults.WireReset {
			t.Fatalf("connection %d: %+v of %+v", n, b, was)
		}
	}
}
