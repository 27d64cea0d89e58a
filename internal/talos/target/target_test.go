package target_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/talos/target"
)

func TestIs(t *testing.T) {
	t.Parallel()

	const vip = "10.0.0.1"

	node := target.Target{Address: "10.0.0.2", Hostname: "cp-1", ID: "one", Addresses: []string{vip, "10.0.0.2", "fd00::2"}}

	for name, c := range map[string]struct {
		other target.Target
		is    bool
	}{
		"the same address":                     {target.Target{Address: "10.0.0.2"}, true},
		"another of its addresses":             {target.Target{Address: "fd00::2"}, true},
		"the name only":                        {target.Target{Hostname: "cp-1"}, true},
		"another node":                         {target.Target{Address: "10.0.0.3", Hostname: "cp-2"}, false},
		"a virtual IP that both have had":      {target.Target{Address: "10.0.0.3", Addresses: []string{vip, "10.0.0.3"}}, false},
		"another machine of the same hostname": {target.Target{Address: "10.0.0.3", Hostname: "cp-1", ID: "two"}, false},
		"the identity at another address":      {target.Target{Address: "10.0.0.9", Hostname: "renamed", ID: "one"}, true},
		"nothing":                              {target.Target{}, false},
	} {
		if node.Is(c.other) != c.is || c.other.Is(node) != c.is {
			t.Errorf("%s: want %v", name, c.is)
		}
	}
}
