package talos

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
)

// KubeSpanPeer is another node as this one sees it through KubeSpan.
type KubeSpanPeer struct {
	NodeRef

	Label              string     `json:"label"`                          // The peer's name, its hostname.
	PublicKey          string     `json:"public_key"`                     // The peer's WireGuard public key.
	State              string     `json:"state"`                          // up, down or unknown.
	Address            string     `json:"address"`                        // The peer's KubeSpan address.
	Endpoint           string     `json:"endpoint"`                       // The endpoint that WireGuard uses now.
	LastUsedEndpoint   string     `json:"last_used_endpoint"`             // The endpoint that Talos tried last.
	Endpoints          []string   `json:"endpoints"`                      // Every endpoint that the peer announced; never null.
	AllowedIPs         []string   `json:"allowed_ips"`                    // The prefixes routed to it; never null.
	ReceiveBytes       int64      `json:"receive_bytes"`                  // Bytes received from it.
	TransmitBytes      int64      `json:"transmit_bytes"`                 // Bytes sent to it.
	LastHandshake      *time.Time `json:"last_handshake,omitempty"`       // When the last handshake was.
	LastEndpointChange *time.Time `json:"last_endpoint_change,omitempty"` // When the endpoint was last changed.
}

// KubeSpanPeers lists the node's KubeSpan peers by label; none where KubeSpan is off. Roles: reader,
// operator, admin.
func (n *Node) KubeSpanPeers(ctx context.Context) ([]KubeSpanPeer, error) {
	type announced struct {
		Address    string   `json:"address"`
		AllowedIPs []string `json:"allowedIPs"`
		Endpoints  []string `json:"endpoints"`
	}

	specs := map[string]announced{}

	if _, err := (View[announced, struct{}]{
		Namespace: "kubespan", Type: "KubeSpanPeerSpecs.kubespan.talos.dev",
		Row: func(id string, s announced) struct{} {
			specs[id] = s

			return struct{}{}
		},
	}).List(ctx, n); err != nil {
		return nil, err
	}

	type status struct {
		Endpoint           string    `json:"endpoint"`
		Label              string    `json:"label"`
		State              string    `json:"state"`
		ReceiveBytes       int64     `json:"receiveBytes"`
		TransmitBytes      int64     `json:"transmitBytes"`
		LastHandshakeTime  time.Time `json:"lastHandshakeTime"`
		LastUsedEndpoint   string    `json:"lastUsedEndpoint"`
		LastEndpointChange time.Time `json:"lastEndpointChange"`
	}

	out, err := View[status, KubeSpanPeer]{
		Namespace: "kubespan", Type: "KubeSpanPeerStatuses.kubespan.talos.dev",
		Row: func(id string, s status) KubeSpanPeer {
			return KubeSpanPeer{
				Label: s.Label, PublicKey: id, State: s.State, Address: specs[id].Address, Endpoint: s.Endpoint,
				LastUsedEndpoint: s.LastUsedEndpoint, Endpoints: notNil(specs[id].Endpoints), AllowedIPs: notNil(specs[id].AllowedIPs),
				ReceiveBytes: s.ReceiveBytes, TransmitBytes: s.TransmitBytes, LastHandshake: whenSet(s.LastHandshakeTime),
				LastEndpointChange: whenSet(s.LastEndpointChange),
			}
		},
	}.List(ctx, n)

	lists.Sort(out, func(a, b KubeSpanPeer) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.PublicKey, b.PublicKey))
	})

	return out, err
}

// whenSet is nil for an unset time.
func whenSet(t time.Time) *time.Time {
	if t.IsZero() || t.Unix() == 0 {
		return nil
	}

	t = t.UTC()

	return &t
}
