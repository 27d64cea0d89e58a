package talos

import (
	"context"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// The actions on a service.
const (
	ServiceStart   = "start"
	ServiceStop    = "stop"
	ServiceRestart = "restart"
)

// ControlService starts, stops or restarts a service and returns the node's message. Only some services allow it:
// kubelet allows restart, services of extensions all three, etcd, apid, machined and trustd none (Talos,
// internal/app/machined/pkg/system/services). Roles: operator, admin.
func (n *Node) ControlService(ctx context.Context, act, id string) (string, error) {
	op := act + " service " + id

	switch act {
	case ServiceStart:
		resp, err := n.machine().ServiceStart(ctx, &machine.ServiceStartRequest{Id: id})
		m, err := first(n, op, resp.GetMessages(), err)

		return m.GetResp(), err
	case ServiceStop:
		resp, err := n.machine().ServiceStop(ctx, &machine.ServiceStopRequest{Id: id})
		m, err := first(n, op, resp.GetMessages(), err)

		return m.GetResp(), err
	default:
		resp, err := n.machine().ServiceRestart(ctx, &machine.ServiceRestartRequest{Id: id})
		m, err := first(n, op, resp.GetMessages(), err)

		return m.GetResp(), err
	}
}
