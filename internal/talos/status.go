package talos

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// ServerHealth runs the node's own health check of the cluster and passes on each message. Only control planes serve
// it. wait bounds how long the server waits for all conditions. Roles: reader, operator, admin.
func (n *Node) ServerHealth(ctx context.Context, wait time.Duration, message func(string)) error {
	const op = "run the server's health check"

	return conn.Read(ctx, n.Conn, op, conn.Terms{Meter: &conn.Meter{}}, func(ctx context.Context) (grpc.ServerStreamingClient[cluster.HealthCheckProgress], error) {
		return cluster.NewClusterServiceClient(n.Conn).HealthCheck(ctx, &cluster.HealthCheckRequest{WaitTimeout: durationpb.New(wait)})
	}, func(p *cluster.HealthCheckProgress) error {
		message(p.GetMessage())

		return nil
	})
}

// MachineStatus is the state that the node reports.
type MachineStatus struct {
	Stage   string           `json:"stage"`   // booting, installing, running, rebooting, upgrading, maintenance, …
	Ready   bool             `json:"ready"`   // Whether no condition is unmet.
	Unmet   []UnmetCondition `json:"unmet"`   // What is still missing.
	Created time.Time        `json:"created"` // When the status was created: at each boot.
}

// UnmetCondition is one reason why a node is not ready.
type UnmetCondition struct {
	Name   string `json:"name"`   // The condition, services or nodeReady.
	Reason string `json:"reason"` // What is missing.
}

// Settled reports whether the node is running without unmet conditions. Neither is enough alone: a node was seen
// running and not ready until its Kubernetes node was back, and booting and ready.
func (s MachineStatus) Settled() bool { return s.Stage == "running" && s.Ready && len(s.Unmet) == 0 }

// Problems names what is unmet: NAME, or NAME SUBJECT for each service, static pod or part of the network that the reason
// lists (Talos, internal/app/machined/pkg/controllers/runtime/machine_status.go).
func (s MachineStatus) Problems() []string {
	out := []string{}

	for _, u := range s.Unmet {
		switch u.Name {
		case "services", "staticPods", "network":
			for _, part := range strings.Split(strings.TrimPrefix(u.Reason, "waiting on: "), ", ") {
				subject, _, _ := strings.Cut(part, " ")
				out = append(out, u.Name+" "+subject)
			}
		default:
			out = append(out, u.Name)
		}
	}

	return out
}

// SettledBut reports whether the node is running, and everything unmet is among the known problems.
func (s MachineStatus) SettledBut(known []string) bool {
	if len(s.Unmet) == 0 {
		return s.Settled()
	}

	return s.Stage == "running" && !slices.ContainsFunc(s.Problems(), func(p string) bool { return !slices.Contains(known, p) })
}

// String formats the status on one line.
func (s MachineStatus) String() string {
	text := "stage " + s.Stage

	if !s.Ready {
		text += ", not ready"
	}

	for _, u := range s.Unmet {
		text += ", " + u.Name + ": " + u.Reason
	}

	return text
}

// MachineStatus reads the MachineStatus resource. Roles: reader, operator, admin.
func (n *Node) MachineStatus(ctx context.Context) (MachineStatus, error) {
	r, err := n.Resource(ctx, "runtime", "MachineStatuses.runtime.talos.dev", "machine")
	if err != nil {
		return MachineStatus{}, err
	}

	spec, err := Decode[struct {
		Stage  string `json:"stage"`
		Status struct {
			Ready           bool             `json:"ready"`
			UnmetConditions []UnmetCondition `json:"unmetConditions"`
		} `json:"status"`
	}](r)
	if err != nil {
		return MachineStatus{}, n.Fail("read the machine status", err)
	}

	out := MachineStatus{Stage: spec.Stage, Ready: spec.Status.Ready, Unmet: spec.Status.UnmetConditions, Created: r.Metadata.Created}
	if out.Unmet == nil {
		out.Unmet = []UnmetCondition{}
	}

	return out, nil
}
