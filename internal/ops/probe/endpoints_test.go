package probe

import (
	"testing"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

func TestGateEndpoints(t *testing.T) {
	t.Parallel()

	node := talos.Target{Address: "10.0.0.2", Addresses: []string{"10.0.0.2", "fd00::2"}}

	tests := []struct {
		name      string
		endpoints []string
		vips      []string
		worker    bool
		want      gate.Outcome
	}{
		{"another one stays", []string{"10.0.0.2", "10.0.0.3"}, nil, false, gate.Pass},
		{"only itself", []string{"10.0.0.2:50000"}, nil, false, gate.Warn},
		{"itself by another address", []string{"[fd00::2]:50000"}, nil, false, gate.Warn},
		{"a virtual IP", []string{"10.0.0.9"}, []string{"10.0.0.9"}, false, gate.Refuse},
		{"itself and a virtual IP", []string{"10.0.0.2", "10.0.0.9"}, []string{"10.0.0.9"}, false, gate.Refuse},
		{"a virtual IP in front of a worker", []string{"10.0.0.9"}, []string{"10.0.0.9"}, true, gate.Pass},
		{"a virtual IP and another one", []string{"10.0.0.9", "10.0.0.3"}, []string{"10.0.0.9"}, false, gate.Pass},
	}

	for _, tt := range tests {
		if got := (&Node{Target: node, Endpoints: tt.endpoints, VirtualIPs: tt.vips, ControlPlane: !tt.worker}).GateEndpoints(); got.Verdict != tt.want || got.Gate != gate.EndpointIsTarget {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
	}
}
