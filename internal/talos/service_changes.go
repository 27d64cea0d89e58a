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
		m, err := first(n.machine().ServiceStart(ctx, &machine.ServiceStartRequest{Id: id}))

		return m.GetResp(), n.Fail(op, err)
	case ServiceStop:
		m, err := first(n.machine().ServiceStop(ctx, &machine.ServiceStopRequest{Id: id}))

		return m.GetResp(), n.Fail(op, err)
	default:
		m, err := first(n.machine().ServiceRestart(ctx, &machine.ServiceRestartRequest{Id: id}))

		return m.GetResp(), n.Fail(op, err)
	}
}
