package upgrade

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

// gateClock guards the boot: a node that finds no time afterwards starts neither etcd nor the kubelet, and one with a wrong
// time takes good certificates for bad ones.
func (r *run) gateClock(ctx context.Context) (gate.Verdict, error) {
	node := r.Target.Address
	remedy := "fix the time servers (machine.time.servers, or a TimeSyncConfig document); talosmate system time -n " + r.Target.Name() + " shows the clock"

	status, known, err := r.Node.Read.TimeStatus(ctx)

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

	clock, err := r.Node.Read.Clock(asking, "")
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

// authorityWanted is how long an authority should be good for: replacing one takes planning.
const authorityWanted = 30 * 24 * time.Hour

// gateAuthorities guards the boot, after which everything is signed again: an expired authority signs nothing that is
// trusted.
func (r *run) gateAuthorities(all []talos.Authority) gate.Verdict {
	node := r.Target.Address
	v := gate.New(gate.CertificateEnds, gate.Pass, node, "the cluster's certificate authorities are valid")
	now := r.Now()

	for _, a := range all {
		at := a.NotAfter.UTC().Format(time.RFC3339)

		switch {
		case !now.Before(a.NotAfter):
			return gate.New(gate.CertificateEnds, gate.Refuse, node, "the certificate authority %s expired at %s: nothing would trust the node after its reboot", a.Name, at).
				WithRemedy("replace it first: talosctl rotate-ca renews those of Talos and Kubernetes")
		case a.NotAfter.Sub(now) < authorityWanted:
			v = gate.New(gate.CertificateEnds, gate.Warn, node, "the certificate authority %s expires at %s", a.Name, at).
				WithRemedy("plan its replacement: talosctl rotate-ca renews those of Talos and Kubernetes")
		}
	}

	return v
}

// turnTime is how long a node's turn may well take.
const turnTime = 10 * time.Minute

// GateClient checks that the client certificate outlives a number of turns: whoever loses access in the middle leaves a
// node cordoned.
func GateClient(expires, now time.Time, turns int, node string) gate.Verdict {
	need := time.Duration(turns) * turnTime

	switch left := expires.Sub(now); {
	case expires.IsZero():
		return gate.New(gate.CertificateEnds, gate.Skip, node, "there is no client certificate")
	case left < need:
		return gate.New(gate.CertificateEnds, gate.Refuse, node, "the client certificate expires at %s, and the work may take %s",
			expires.UTC().Format(time.RFC3339), need).
			WithRemedy("make another one first, and use it: talosmate config new FILE")
	default:
		return gate.New(gate.CertificateEnds, gate.Pass, node, "the client certificate is good until %s", expires.UTC().Format(time.RFC3339))
	}
}
