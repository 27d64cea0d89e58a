package upgrade

import (
	"time"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/talos"
)

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
