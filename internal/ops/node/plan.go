package node

import (
	"fmt"
	"strings"
)

// plan records what would be done, in order, for a dry run.
func (r *run) plan() {
	steps := []string{}
	add := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }

	if r.o.Drain && r.K8sName != "" {
		add("cordon and drain the Kubernetes node %s", r.K8sName)
	}

	switch r.o.Action {
	case Reboot:
		add("reboot (%s), and wait until it is healthy again", r.o.Mode)
	case Rollback:
		add("reboot from Talos %s into the other boot slot, whatever version it holds", r.Obs.ServerTag)
	case Shutdown:
		add("power off")
	case Reset, Remove:
		r.planWipe(add)
	}

	if r.o.DeleteKubernetesNode && r.K8sName != "" {
		add("delete the Kubernetes node %s", r.K8sName)
	}

	r.res.Plan = steps

	for _, step := range steps {
		r.Tell("plan", "would "+step)
	}
}

func (r *run) planWipe(add func(format string, args ...any)) {
	switch {
	case r.Node.ControlPlane && (r.o.Action == Remove || r.o.Reset.Graceful):
		add("take its member out of etcd")
	case r.Node.ControlPlane && r.wipesEtcd():
		add("leave its member in etcd, without data")
	}

	if r.o.Action == Reset && r.o.Reset.Graceful && r.K8sName != "" {
		add("let the node cordon and drain itself")
	}

	add("wipe %s", strings.Join(r.res.Wipes, ", "))

	switch {
	case !r.o.Reset.Reboot:
		add("power off")
	case r.losesConfig():
		add("reboot into maintenance mode")
	default:
		add("reboot with its configuration")
	}
}
