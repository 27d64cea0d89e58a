package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

// The states of a service, as Talos names them.
const (
	ServiceStarting  = "Starting"
	ServiceWaiting   = "Waiting"
	ServicePreparing = "Preparing"
	ServiceRunning   = "Running"
	ServiceStopping  = "Stopping"
	ServiceFinished  = "Finished"
	ServiceFailed    = "Failed"
)

// Service is one service of a node.
type Service struct {
	ID          string         `json:"id"`
	State       string         `json:"state"`
	Healthy     bool           `json:"healthy"`
	Unknown     bool           `json:"unknown"`
	LastMessage string         `json:"last_message,omitempty"`
	LastChange  time.Time      `json:"last_change"`
	Events      []ServiceEvent `json:"-"`
}

// ServiceEvent is one line of a service's history.
type ServiceEvent struct {
	State   string
	Message string
	Time    time.Time
}

// maxServiceEvents is how many events Talos keeps for each service.
const maxServiceEvents = 64

// Proto returns the service as ServiceList answers it.
func (s *Service) Proto() *machineapi.ServiceInfo {
	info := &machineapi.ServiceInfo{
		Id:    s.ID,
		State: s.State,
		Health: &machineapi.ServiceHealth{
			Unknown: s.Unknown, Healthy: s.Healthy, LastMessage: s.LastMessage, LastChange: timestamppb.New(s.LastChange),
		},
		Events: &machineapi.ServiceEvents{},
	}

	for _, e := range s.Events {
		info.Events.Events = append(info.Events.Events, &machineapi.ServiceEvent{State: e.State, Msg: e.Message, Ts: timestamppb.New(e.Time)})
	}

	return info
}

// serviceIDs lists the services of the node, sorted as ServiceList sorts them.
func (n *Node) serviceIDs() []string {
	ids := []string{"apid", "auditd", "containerd", "cri", "dashboard", "kubelet", "machined", "syslogd", "udevd"}
	if n.nodeType == ControlPlane {
		ids = append(ids, "etcd", "trustd")
	}

	ids = append(ids, n.extensionServices()...)
	slices.Sort(ids)

	return ids
}

// extensionPrefix is the prefix that Talos gives to services of extensions.
const extensionPrefix = "ext-"

// extensionServices lists the services of the running system's extensions, for the extensions whose service the lab
// knows.
func (n *Node) extensionServices() []string {
	known := map[string]string{
		"iscsi-tools": "iscsid", "qemu-guest-agent": "qemu-guest-agent", "multipath-tools": "multipathd", "zfs": "zfs-service",
	}

	var ids []string

	for _, e := range n.running().Extensions {
		if name, ok := known[e.Name]; ok {
			ids = append(ids, extensionPrefix+name)
		}
	}

	return ids
}

// moveService puts a service into a state, with its history line and event.
func (n *Node) moveService(id, state, message string) {
	s := n.services[id]
	if s == nil {
		return
	}

	now := time.Now()
	s.State = state

	if state != ServiceRunning {
		s.Healthy, s.Unknown, s.LastMessage = false, true, ""
	}

	n.serviceEvent(s, message, now)
}

// judgeService sets a running service's health.
func (n *Node) judgeService(id string, healthy bool, message string) {
	s := n.services[id]
	if s == nil {
		return
	}

	now := time.Now()
	s.Healthy, s.Unknown, s.LastChange, s.LastMessage = healthy, false, now, ""

	if healthy {
		n.serviceEvent(s, "Health check successful", now)

		return
	}

	s.LastMessage = message
	n.serviceEvent(s, "Health check failed: "+message, now)
}

func (n *Node) serviceEvent(s *Service, message string, now time.Time) {
	s.Events = append(s.Events, ServiceEvent{State: s.State, Message: message, Time: now})
	if len(s.Events) > maxServiceEvents {
		s.Events = slices.Delete(s.Events, 0, len(s.Events)-maxServiceEvents)
	}

	n.events.Publish("", &machineapi.ServiceStateEvent{
		Service: s.ID,
		Action:  serviceAction(s.State),
		Message: message,
		Health: &machineapi.ServiceHealth{
			Unknown: s.Unknown, Healthy: s.Healthy, LastMessage: s.LastMessage, LastChange: timestamppb.New(s.LastChange),
		},
	})
	n.refresh()

	if s.ID == "kubelet" || s.ID == "etcd" {
		n.cluster.ServicesChanged(n)
	}
}

func serviceAction(state string) machineapi.ServiceStateEvent_Action {
	switch state {
	case ServicePreparing:
		return machineapi.ServiceStateEvent_PREPARING
	case ServiceWaiting:
		return machineapi.ServiceStateEvent_WAITING
	case ServiceRunning:
		return machineapi.ServiceStateEvent_RUNNING
	case ServiceStopping:
		return machineapi.ServiceStateEvent_STOPPING
	case ServiceFinished:
		return machineapi.ServiceStateEvent_FINISHED
	case ServiceFailed:
		return machineapi.ServiceStateEvent_FAILED
	case ServiceStarting:
		return machineapi.ServiceStateEvent_STARTING
	default:
		return machineapi.ServiceStateEvent_INITIALIZED
	}
}

// startService runs a service from its start until it is healthy.
func (n *Node) startService(id string) {
	n.moveService(id, ServiceStarting, "Starting service")
	n.moveService(id, ServicePreparing, "Running pre state")
	n.moveService(id, ServicePreparing, "Creating service runner")
	n.moveService(id, ServiceRunning, startedMessage(id))

	if f, fails := n.Faults.Get(faults.ServiceFails); fails && f.Value == id {
		n.failing[id] = "health check failed"
	}

	if _, failing := n.failing[id]; failing {
		n.judgeService(id, false, n.failing[id])

		return
	}

	// services without a health check stay unknown
	if id != "auditd" && id != "dashboard" && id != "syslogd" && !strings.HasPrefix(id, extensionPrefix) {
		n.judgeService(id, true, "")
	}
}

func startedMessage(id string) string {
	switch id {
	case "machined", "auditd", "syslogd":
		return "Service started as goroutine"
	case "containerd", "cri", "udevd", "dashboard":
		return fmt.Sprintf("Process Process([\"/bin/%s\"]) started with PID %d", id, servicePID(id))
	default:
		return fmt.Sprintf("Started task %s (PID %d) for container %s", id, servicePID(id), id)
	}
}

// servicePID is a made-up but stable process ID.
func servicePID(id string) int {
	pid := 1000
	for _, c := range id {
		pid = pid*31%30000 + int(c)
	}

	return pid + 500
}
