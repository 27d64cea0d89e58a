package machine

import (
	"net/netip"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
)

func TestCutsOff(t *testing.T) {
	t.Parallel()

	const link = "---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth0\n"

	for more, want := range map[string]bool{
		"":                   false,
		link + "mtu: 1400\n": false,
		link + "up: false\n": true,
		link + "addresses: [{address: 127.5.0.2/24}]\n":                                                   false,
		link + "addresses: [{address: 127.5.0.9/24}]\n":                                                   true,
		link + "addresses: [{address: 127.5.0.2/24}]\nroutes: [{gateway: 127.5.0.1}]\n":                   false,
		link + "addresses: [{address: 127.5.0.2/24}]\nroutes: [{gateway: 127.50.0.1}]\n":                  true,
		link + "routes: [{gateway: 127.50.0.1, destination: 10.0.0.0/8}]\n":                               false,
		"---\napiVersion: v1alpha1\nkind: LinkConfig\nname: eth1\naddresses: [{address: 127.9.0.2/24}]\n": false,
	} {
		cfg, err := configloader.NewFromBytes([]byte("version: v1alpha1\nmachine: {type: worker}\ncluster: {}\n" + more))
		if err != nil {
			t.Fatal(err)
		}

		if got := cutsOff(cfg, netip.MustParseAddr("127.5.0.2")); got != want {
			t.Errorf("%q: %t", more, got)
		}
	}
}
