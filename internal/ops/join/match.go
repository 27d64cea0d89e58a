package join

import (
	"context"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

// checkName refuses a hostname that another node has.
func (j *join) checkName(ctx context.Context) error {
	name := j.config.Hostname()
	if name == "" || name == j.instead {
		return nil
	}

	return machineconfig.CheckName(ctx, name, j.Target, j.m.Members, j.m.Alive)
}

// gateName refuses the name of an etcd member that is down: the machine would remove it automatically, with no
// look at quorum.
func (j *join) gateName(v etcd.View) error {
	name := j.config.Hostname()

	for _, m := range v.Members {
		if name != "" && name != j.instead && m.Name == name && m.Node != j.Target.Address {
			return errs.Usagef("the configuration names the machine %s, and etcd has a member of that name on %s", name, m.Node).
				WithHint("to exchange that node: talosmate node replace")
		}
	}

	return nil
}
