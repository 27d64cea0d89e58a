package talos

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
)

// The values of a service's health.
const (
	Healthy       = "healthy"
	Unhealthy     = "unhealthy"
	HealthUnknown = "unknown"
)

// Service is one of the node's own services.
type Service struct {
	NodeRef

	ID          string         `json:"id"`                    // The service: apid, etcd, kubelet, …
	State       string         `json:"state"`                 // Its state in lower case: running, finished, failed, …
	Health      string         `json:"health"`                // healthy, unhealthy, or unknown where there is no check.
	LastMessage string         `json:"last_message"`          // The last message of its health check.
	LastChange  *time.Time     `json:"last_change,omitempty"` // When its health last changed.
	Events      []ServiceEvent `json:"events"`                // Its events, oldest first.
}

// ServiceEvent is one change of a service's state.
type ServiceEvent struct {
	Time    time.Time `json:"time"`    // When it happened.
	State   string    `json:"state"`   // The new state, in lower case.
	Message string    `json:"message"` // The message of the event.
}

// serviceRunning is the state of a service whose process runs.
const serviceRunning = "running"

// Services lists the node's services by ID. Roles: reader, operator, admin.
func (n *Node) Services(ctx context.Context) ([]Service, error) {
	m, err := first(n.machine().ServiceList(ctx, &emptypb.Empty{}))
	if err != nil {
		return nil, n.Fail("list services", err)
	}

	out := lists.Map(m.GetServices(), serviceOf)

	lists.Sort(out, func(a, b Service) int { return strings.Compare(a.ID, b.ID) })

	return out, nil
}

// Service finds one service of the node. Roles: reader, operator, admin.
func (n *Node) Service(ctx context.Context, id string) (Service, error) {
	services, err := n.Services(ctx)
	if err != nil {
		return Service{}, err
	}

	if s, found := lists.Find(services, func(s Service) bool { return s.ID == id }); found {
		return s, nil
	}

	err = n.Fail("find service "+id, errors.New("the node has no service of that name"))

	var typed *errs.Error
	if errors.As(err, &typed) {
		typed.Kind, typed.Hint = errs.KindNotFound, "its services are "+lists.Join(services, ", ", func(s Service) string { return s.ID })
	}

	return Service{}, err
}

func serviceOf(s *machine.ServiceInfo) Service {
	out := Service{
		ID: s.GetId(), State: strings.ToLower(s.GetState()), Health: HealthUnknown,
		LastMessage: s.GetHealth().GetLastMessage(),
		Events: lists.Map(s.GetEvents().GetEvents(), func(e *machine.ServiceEvent) ServiceEvent {
			return ServiceEvent{Time: stamp(e.GetTs()), State: strings.ToLower(e.GetState()), Message: e.GetMsg()}
		}),
	}

	if h := s.GetHealth(); h != nil && !h.GetUnknown() {
		out.Health = Unhealthy
		if h.GetHealthy() {
			out.Health = Healthy
		}
	}

	if at := stamp(s.GetHealth().GetLastChange()); !at.IsZero() {
		out.LastChange = &at
	}

	return out
}
