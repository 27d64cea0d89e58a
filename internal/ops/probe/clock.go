package probe

import (
	"context"
	"math"
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

// How far a clock may be off. Talos dates what it signs back by ten seconds (allowedTimeSkew in its pkg/kubeconfig): what
// another node has just signed is not valid yet for a clock that is further behind. etcd complains from one second on.
const (
	clockAllowed = 10 * time.Second
	clockWanted  = time.Second
)

// clockTimeout is how long a node may take to ask its time server; the node itself gives up after five seconds.
const clockTimeout = 8 * time.Second

// Timekeeper is a node that can be asked about its clock; *talos.Node implements it.
type Timekeeper interface {
	TimeStatus(ctx context.Context) (status talos.TimeStatus, known bool, err error)
	Clock(ctx context.Context, server string) (talos.Clock, error)
}

// GateClock compares the clock of a node with its time server (TM138). A node that finds no time after a boot starts
// neither etcd nor the kubelet, and one with a wrong time takes good certificates for bad ones.
func GateClock(ctx context.Context, n Timekeeper, t talos.Target) (gate.Verdict, error) {
	node := t.Address
	remedy := "fix the time servers (machine.time.servers, or a TimeSyncConfig document); talosmate system time -n " + t.Name() + " shows the clock"

	status, known, err := n.TimeStatus(ctx)

	switch {
	case err != nil:
		return gate.Verdict{}, err
	case !known || status.SyncDisabled:
		return gate.New(gate.ClockOff, gate.Skip, node, "the node leaves its clock alone"), nil
	case !status.Synced:
		return gate.New(gate.ClockOff, gate.Refuse, node, "the clock is not in sync: after its reboot the node waits for the time before it starts etcd and the kubelet").
			WithRemedy("%s", remedy), nil
	}

	asking, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()

	clock, err := n.Clock(asking, "")
	if ctx.Err() != nil {
		return gate.Verdict{}, context.Cause(ctx)
	}

	if err != nil {
		return gate.New(gate.ClockOff, gate.Warn, node, "the clock was in sync, and its time server does not answer now: %v", err).WithRemedy("%s", remedy), nil
	}

	off := time.Duration(math.Abs(clock.OffsetSeconds) * float64(time.Second)).Round(time.Second / 10)

	switch {
	case off > clockAllowed:
		return gate.New(gate.ClockOff, gate.Refuse, node, "the clock is %s off %s", off, clock.Server).WithRemedy("%s", remedy), nil
	case off > clockWanted:
		return gate.New(gate.ClockOff, gate.Warn, node, "the clock is %s off %s", off, clock.Server).WithRemedy("%s", remedy), nil
	default:
		return gate.New(gate.ClockOff, gate.Pass, node, "the clock is in sync"), nil
	}
}
