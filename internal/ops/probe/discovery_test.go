package probe

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func TestGateDiscovery(t *testing.T) {
	t.Parallel()

	member := func(name, address, source string) talos.Member {
		return talos.Member{NodeRef: talos.NodeRef{Node: address, Hostname: name}, Addresses: []string{address}, Source: source}
	}
	cp1, cp2 := member("cp-1", "10.0.0.1", target.FromDiscovery), member("cp-2", "10.0.0.2", target.FromEtcd)

	for name, c := range map[string]struct {
		members []talos.Member
		nodes   []kube.Node
		all     bool
		want    gate.Outcome
		says    string
	}{
		"it lists everybody":                   {members: []talos.Member{cp1}, nodes: []kube.Node{{Name: "cp-1"}}, want: gate.Pass},
		"Kubernetes was not asked":             {members: []talos.Member{cp1}, want: gate.Pass},
		"a node by its address":                {members: []talos.Member{cp1}, nodes: []kube.Node{{Name: "i-1", Addresses: []string{"10.0.0.1"}}}, want: gate.Pass},
		"etcd has another control plane":       {members: []talos.Member{cp1, cp2}, want: gate.Refuse, says: "cp-2 (an etcd member)"},
		"Kubernetes has another node":          {members: []talos.Member{cp1}, nodes: []kube.Node{{Name: "cp-1"}, {Name: "w-1"}}, want: gate.Refuse, says: "w-1 (a Kubernetes node)"},
		"discovery is off, one node was named": {members: []talos.Member{cp2}, want: gate.Warn, says: "cp-2"},
		"discovery is off, all nodes":          {members: []talos.Member{cp2}, all: true, want: gate.Refuse, says: "cp-2"},
	} {
		node := "10.0.0.1"
		if c.all {
			node = ""
		}

		if got := GateDiscovery(c.members, c.nodes, node); got.Verdict != c.want || !strings.Contains(got.Message, c.says) || got.Gate != gate.DiscoveryPartial {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
