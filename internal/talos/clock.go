package talos

import (
	"context"
	"time"

	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Clock is a node's clock compared with a time server's.
type Clock struct {
	NodeRef

	Server        string    `json:"server"`                  // The time server that the node asked.
	Local         time.Time `json:"local"`                   // The node's clock.
	Remote        time.Time `json:"remote"`                  // The server's clock.
	OffsetSeconds float64   `json:"offset_seconds"`          // Remote minus local: how far the node's clock is behind, as NTP counts it.
	Synced        *bool     `json:"synced,omitempty"`        // Whether the node reports its clock as synchronized; absent when it does not report.
	SyncDisabled  *bool     `json:"sync_disabled,omitempty"` // Whether time synchronization is disabled on the node.
}

// Clock compares the node's clock with a time server, its configured one if server is empty. Roles: reader, operator,
// admin.
func (n *Node) Clock(ctx context.Context, server string) (Clock, error) {
	var (
		resp *timeapi.TimeResponse
		err  error
	)

	if server == "" {
		resp, err = n.clock().Time(ctx, &emptypb.Empty{})
	} else {
		resp, err = n.clock().TimeCheck(ctx, &timeapi.TimeRequest{Server: server})
	}

	m, err := first(resp, err)
	if err != nil {
		return Clock{}, n.Fail("compare the time", err)
	}

	out := Clock{Server: m.GetServer(), Local: stamp(m.GetLocaltime()), Remote: stamp(m.GetRemotetime())}
	out.OffsetSeconds = out.Remote.Sub(out.Local).Seconds()

	s, known, err := n.TimeStatus(ctx)
	if known {
		out.Synced, out.SyncDisabled = &s.Synced, &s.SyncDisabled
	}

	return out, err
}

// TimeStatus is the node's report on its clock. Until the clock is in sync for the first time after a boot, the node
// starts neither etcd nor the kubelet.
type TimeStatus struct {
	Synced       bool `json:"synced"`       // Whether the clock is in sync.
	SyncDisabled bool `json:"syncDisabled"` // Whether time synchronization is disabled on the node.
}

// TimeStatus reads the status; known is false when the node does not report it. Roles: reader, operator, admin.
func (n *Node) TimeStatus(ctx context.Context) (status TimeStatus, known bool, err error) {
	list, err := View[TimeStatus, TimeStatus]{
		Namespace: "runtime", Type: "TimeStatuses.v1alpha1.talos.dev", Row: func(_ string, s TimeStatus) TimeStatus { return s },
	}.List(ctx, n)
	if err != nil || len(list) == 0 {
		return TimeStatus{}, false, err
	}

	return list[0], true, nil
}
