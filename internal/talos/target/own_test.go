package target_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/talos/target"
)

// TestOwn goes through what real nodes announce. The own address is 10.0.0.11 everywhere.
func TestOwn(t *testing.T) {
	t.Parallel()

	const own, vip = "10.0.0.11", "10.0.0.5"

	known := func(e target.Evidence) target.Evidence {
		e.Virtual, e.Moves = []string{vip}, true

		return e
	}

	for name, c := range map[string]struct {
		addresses []string
		evidence  target.Evidence
		sure      bool
	}{
		"one address":                                        {[]string{own}, target.Evidence{}, true},
		"a lower virtual IP in the subnet":                   {[]string{vip, own}, known(target.Evidence{}), true},
		"a virtual IP on another link":                       {[]string{"192.168.9.9", own}, target.Evidence{Virtual: []string{"192.168.9.9"}, Moves: true}, true},
		"a virtual IP as the only endpoint":                  {[]string{vip, own}, known(target.Evidence{Endpoints: []string{vip}}), true},
		"a virtual IP as an endpoint with a port":            {[]string{vip, own}, known(target.Evidence{Endpoints: []string{vip + ":50000", own + ":50000"}}), true},
		"a virtual IP that is not known, and etcd":           {[]string{vip, own}, target.Evidence{Endpoints: []string{vip}, Etcd: own}, true},
		"a virtual IP that is not known, and the kubelet":    {[]string{vip, own}, target.Evidence{Endpoints: []string{vip}, Kubelet: []string{own}}, true},
		"an address that two nodes announce":                 {[]string{vip, own}, target.Evidence{Others: []string{vip}}, true},
		"an endpoint without a port":                         {[]string{"10.0.0.2", own}, known(target.Evidence{Endpoints: []string{"10.0.0.99", own}}), true},
		"an endpoint with a port":                            {[]string{"10.0.0.2", own}, known(target.Evidence{Endpoints: []string{own + ":50000"}}), true},
		"an endpoint before the kubelet's address":           {[]string{"10.0.0.2", own}, known(target.Evidence{Endpoints: []string{own}, Kubelet: []string{"10.0.0.2"}}), true},
		"the kubelet's address before etcd's":                {[]string{"10.0.0.2", own}, known(target.Evidence{Kubelet: []string{own}, Etcd: "10.0.0.2"}), true},
		"cilium_host sorts first, the kubelet tells":         {[]string{"10.0.0.3", own}, known(target.Evidence{Kubelet: []string{own}}), true},
		"a storage network sorts first, etcd tells":          {[]string{"10.0.0.1", own}, known(target.Evidence{Etcd: own}), true},
		"dual stack behind an IPv4 endpoint":                 {[]string{"2001:db8::11", own}, known(target.Evidence{Endpoints: []string{"10.0.0.12"}}), true},
		"KubeSpan's address sorts last":                      {[]string{own, "fd83:b1f7::11"}, known(target.Evidence{Endpoints: []string{"10.0.0.12:50000"}}), true},
		"behind NAT: endpoints that nobody announces":        {[]string{own}, known(target.Evidence{Endpoints: []string{"203.0.113.7"}}), true},
		"a load balancer in front, and a virtual IP":         {[]string{vip, own}, known(target.Evidence{Endpoints: []string{"203.0.113.7:443"}}), true},
		"two of one family and no evidence":                  {[]string{own, "10.0.0.12"}, known(target.Evidence{Endpoints: []string{"10.0.0.99"}}), false},
		"a host name as endpoint":                            {[]string{own, "10.0.0.12"}, known(target.Evidence{Endpoints: []string{"cp.example.com"}}), false},
		"dual stack behind a host name":                      {[]string{own, "2001:db8::11"}, known(target.Evidence{Endpoints: []string{"cp.example.com"}}), false},
		"a virtual IP of each family":                        {[]string{"2001:db8::5", vip, own}, target.Evidence{Virtual: []string{vip, "2001:db8::5"}, Moves: true}, true},
		"etcd advertises an address that is announced twice": {[]string{"10.0.0.2", own}, target.Evidence{Etcd: "10.0.0.2", Others: []string{"10.0.0.2"}}, true},
	} {
		if got, sure := c.evidence.Own(c.addresses); got != own || sure != c.sure {
			t.Errorf("%s: %s, sure %v", name, got, sure)
		}
	}

	if got, sure := (target.Evidence{Virtual: []string{vip}, Moves: true}).Own([]string{vip}); got != vip || sure {
		t.Errorf("nothing but a virtual IP: %s, sure %v", got, sure)
	}
}

func TestHost(t *testing.T) {
	t.Parallel()

	for endpoint, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "10.0.0.1:50000": "10.0.0.1", "https://10.0.0.1:50000": "10.0.0.1", "fd00::1": "fd00::1",
		"[FD00:0::1]": "fd00::1", "[fd00::1]:50000": "fd00::1", "cp-1": "cp-1", "cp-1.example.com:50000": "cp-1.example.com",
		"::ffff:10.0.0.1": "10.0.0.1", "": "",
	} {
		if got := target.Host(endpoint); got != want {
			t.Errorf("%q: %q, want %q", endpoint, got, want)
		}
	}
}
