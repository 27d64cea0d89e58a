package target_test

import (
	"slices"
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

// TestEachOnce compares the search by keys with the comparison of each node with each: every pair of these is tried.
func TestEachOnce(t *testing.T) {
	t.Parallel()

	all := []target.Target{
		{Address: "10.0.0.2", Hostname: "cp-1", ID: "one", Addresses: []string{"10.0.0.1", "10.0.0.2", "fd00::2"}},
		{Address: "10.0.0.2:50000"},
		{Address: "[fd00::2]:50000"},
		{Address: "fd00::2"},
		{Address: "10.0.0.1", ID: "two"},
		{Address: "10.0.0.9", Hostname: "renamed", ID: "one"},
		{Address: "10.0.0.3", Hostname: "cp-1"},
		{Address: "10.0.0.3", Hostname: "cp-2", ID: "two"},
		{Address: "10.0.0.4", Addresses: []string{"10.0.0.1", "10.0.0.4"}},
		{Hostname: "cp-1"},
		{},
	}

	for _, a := range all {
		for _, b := range all {
			want := 2
			if b.Is(a) {
				want = 1
			}

			got := target.EachOnce([]target.Target{a, b})
			if a.Address == b.Address {
				want = 1 // Sort drops duplicates
			}

			if len(got) != want || !slices.ContainsFunc(got, func(t target.Target) bool { return t.Address == a.Address }) {
				t.Errorf("%+v and %+v are %d, want %d", a, b, len(got), want)
			}
		}
	}
}

func TestKnown(t *testing.T) {
	t.Parallel()

	k := target.NewKnown([]target.Member{
		{NodeRef: target.NodeRef{Node: "10.0.0.1"}, Addresses: []string{"10.0.0.1", "fd00::1"}},
		{NodeRef: target.NodeRef{Node: "10.0.0.2"}, Addresses: []string{"10.0.0.1", "10.0.0.2"}},
	})

	for endpoint, want := range map[string][]int{
		"10.0.0.1": {0, 1}, "https://10.0.0.2:50000": {1}, "[fd00::1]:50000": {0}, "FD00:0::1": {0}, "10.0.0.3": nil, "": nil,
	} {
		if got := k.At(endpoint); !slices.Equal(got, want) {
			t.Errorf("%q is at %v, want %v", endpoint, got, want)
		}
	}
}
