package talos_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/talos"
)

func TestParseEtcdID(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]talos.EtcdID{
		"8e9e05c52164694d": 10276657743932975437, "10276657743932975437": 10276657743932975437, "0x10": 16, "1234567890123456": 0x1234567890123456, "12": 12,
	} {
		if got, ok := talos.ParseEtcdID(text); !ok || got != want {
			t.Errorf("%s: %d %t, want %d", text, got, ok, want)
		}
	}

	if _, ok := talos.ParseEtcdID("cp-1"); ok {
		t.Error("a hostname is no ID")
	}

	if id := talos.EtcdID(10276657743932975437); id.Hex() != "8e9e05c52164694d" || id.Decimal() != "10276657743932975437" {
		t.Errorf("%s %s", id.Hex(), id.Decimal())
	}
}
