package target_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func TestAllowed(t *testing.T) {
	t.Parallel()

	allowed, err := target.ParseAllowed([]string{"10.5.0.2", "worker-1", "10.9.0.0/16", " [fd00::7]:50000 "})
	if err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		node target.Target
		want bool
	}{
		"by address":             {target.Target{Address: "10.5.0.2"}, true},
		"by another address":     {target.Target{Address: "fd00::2", Addresses: []string{"fd00::2", "10.5.0.2"}}, true},
		"by hostname":            {target.Target{Address: "10.5.0.5", Hostname: "worker-1"}, true},
		"by network":             {target.Target{Address: "10.9.3.4"}, true},
		"by IPv6 address":        {target.Target{Address: "fd00::7"}, true},
		"beside the network":     {target.Target{Address: "10.10.3.4"}, false},
		"an address it only has": {target.Target{Address: "10.5.0.6", Addresses: []string{"10.9.0.1"}}, false},
		"another hostname":       {target.Target{Address: "10.5.0.6", Hostname: "worker-11"}, false},
		"a name without address": {target.Target{Address: "worker-2"}, false},
		"nothing":                {target.Target{}, false},
	} {
		if got := allowed.Permits(c.node); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}

	refusal := allowed.Check(target.Target{Address: "10.5.0.6", Hostname: "worker-2"})
	if errs.ExitCode(refusal) != errs.Refused || errs.Entries(refusal)[0].Gate != "TM163" || !strings.Contains(errs.Hints(refusal)[0], "worker-1") {
		t.Errorf("refusal %+v", errs.Entries(refusal))
	}

	if !(target.Allowed{}).Permits(target.Target{Address: "10.0.0.1"}) {
		t.Error("an empty list must allow every node")
	}

	for _, bad := range []string{"", "  ", "10.0.0.0/33", "a/b"} {
		if _, err := target.ParseAllowed([]string{bad}); errs.ExitCode(err) != errs.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
