package machine

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
)

func TestOrderOfAddresses(t *testing.T) {
	for _, c := range []struct {
		algorithm nethelpers.AddressSortAlgorithm
		vip, want string
	}{
		{nethelpers.AddressSortAlgorithmV1, "10.0.0.5/32", "10.0.0.5/32"},
		{nethelpers.AddressSortAlgorithmV1, "10.0.0.50/32", "10.0.0.11/24"},
		{nethelpers.AddressSortAlgorithmV2, "10.0.0.50/32", "10.0.0.50/32"},
		{nethelpers.AddressSortAlgorithmV2, "10.0.1.5/32", "10.0.0.11/24"},
	} {
		got := []netip.Prefix{netip.MustParsePrefix("10.0.0.11/24"), netip.MustParsePrefix(c.vip)}
		slices.SortFunc(got, comparePrefixes(c.algorithm))

		if got[0].String() != c.want {
			t.Errorf("%s: %v, want %s first", c.algorithm, got, c.want)
		}
	}
}

func TestNodenames(t *testing.T) {
	for hostname, want := range map[string]string{"cp-1": "cp-1", "CP_1.Example.COM": "cp-1.example.com", "-x!y-": "xy"} {
		if got := nodenameOf(hostname); got != want {
			t.Errorf("%s: %s, want %s", hostname, got, want)
		}
	}
}
