package join

import (
	"context"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

// gateName refuses a hostname that another node has.
func (j *join) gateName(ctx context.Context) []gate.Verdict {
	name := j.config.Hostname()
	if name == "" || name == j.instead {
		return nil
	}

	return []gate.Verdict{machineconfig.GateName(ctx, name, j.Target, j.m.Members, j.m.Alive)}
}

// gateMember refuses the name of an etcd member that is down: the machine would remove it automatically, with no
// look at quorum.
func (j *join) gateMember(v etcd.View) []gate.Verdict {
	name := j.config.Hostname()

	for _, m := range v.Members {
		if name != "" && name != j.instead && m.Name == name && m.Node != j.Target.Address {
			return []gate.Verdict{
				gate.New(gate.NameTaken, gate.Refuse, j.Target.Address, "the configuration names the machine %s, and etcd has a member of that name on %s", name, m.Node).
					WithRemedy("to exchange that node: talosmate node replace"),
			}
		}
	}

	return nil
}
