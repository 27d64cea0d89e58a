package join

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
)

// sameHardware reports whether hardware may be the machine's: one of two that do not tell.
func (j *join) sameHardware(uuid string) bool { return uuid == "" || j.uuid == "" || uuid == j.uuid }

// follow looks for the machine at another address: it has one by DHCP in maintenance mode, and its configuration may give it
// another. The machine is a node that the cluster did not have before, of its hardware where that is known, else of its
// hostname. What cannot be read is asked again with the next poll.
func (j *join) follow(ctx context.Context) {
	for _, t := range j.newcomers(ctx) {
		n := j.m.At(t)

		done, _, _ := n.Prober().Ask(ctx, func(ctx context.Context, n probe.API) (string, bool, error) {
			uuid, err := n.SystemUUID(ctx)
			known := uuid != "" && j.uuid != ""

			return "", err == nil && j.sameHardware(uuid) && (known || strings.EqualFold(t.Hostname, j.config.Hostname())), err
		})
		if !done {
			continue
		}

		j.res.MovedFrom, j.Target, j.m.Node = j.Target.Address, t, n
		j.res.SetNode(t)
		j.Stage("wait", "the machine now has the address %s instead of %s", t.Address, j.res.MovedFrom)

		return
	}
}

// newcomers lists the nodes that discovery, etcd or Kubernetes has now and the cluster did not have before, and those of
// the machine's hostname.
func (j *join) newcomers(ctx context.Context) []talos.Target {
	ctx, cancel := context.WithTimeout(ctx, probe.Limit)
	defer cancel()

	name := j.config.Hostname()
	had := func(t talos.Target) bool {
		return t.Is(j.Target) || slices.ContainsFunc(j.m.Members, func(m talos.Member) bool { return m.Is(t) })
	}

	var out []talos.Target

	members, err := j.m.Relist(ctx)
	if err != nil {
		return nil
	}

	for _, m := range members {
		if t := m.Target(); !t.Has(j.Target.Address) && (!had(t) || (name != "" && strings.EqualFold(t.Hostname, name))) {
			out = append(out, t)
		}
	}

	if len(out) > 0 || j.kube == nil || name == "" {
		return out
	}

	nodes, err := j.kube.Nodes(ctx)
	if err != nil {
		return nil
	}

	if n, found := probe.FindNode(nodes, talos.Target{Hostname: name}, ""); found && len(n.Addresses) > 0 && !slices.Contains(n.Addresses, j.Target.Address) {
		out = append(out, talos.Target{Address: n.Addresses[0], Addresses: n.Addresses, Hostname: name, Type: j.res.MachineType, Sure: true})
	}

	return out
}
