package container_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func cri() map[string]string {
	return map[string]string{"MachineService.Containers": "cri", "MachineService.Stats": "cri"}
}

func system() map[string]string {
	return map[string]string{"MachineService.Containers": "system", "MachineService.Stats": "system"}
}

func TestList(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "list.none", Variants: cri(), Args: []string{"container", "list", "-n", "n1,n4", "-o", "json"}},
		{Name: "list.system", Variants: system(), Args: []string{"container", "list", "-n", "n1,n4", "--namespace", "system"}},
		{
			Name: "list.system.v1.13.9", Version: "talos-v1.13.9", Variants: system(),
			Args: []string{"container", "list", "-n", "10.5.0.2,10.5.0.5", "--namespace", "system", "-o", "wide"},
		},
		{Name: "list.json", Variants: system(), Args: []string{"ctr", "ls", "-n", "n1", "--namespace", "system", "-o", "json"}},
		{Name: "list.name", Variants: system(), Args: []string{"ctr", "ls", "-n", "n1", "--namespace", "system", "-o", "name"}},
		{
			Name: "list.partial", Variants: system(), Code: 4, Args: []string{"ctr", "ls", "-n", "n3,n4", "--namespace", "system"},
			Stderr: []string{"cannot list containers on 10.5.0.4 (n3)"},
		},
		{
			Name: "list.bad-namespace", Code: 2, Args: []string{"ctr", "ls", "-n", "n1", "--namespace", "k8s.io"},
			Stderr: []string{"want one of cri, system"},
		},
		{Name: "list.none", Variants: cri(), Args: []string{"container", "list", "-n", "n1,n4", "-k", "-o", "json"}},
		{Name: "list.name", Variants: system(), Args: []string{"ctr", "ls", "-n", "n1", "--kubernetes=false", "-o", "name"}},
		{
			Name: "list.both", Code: 2, Args: []string{"ctr", "ls", "-n", "n1", "-k", "--namespace", "system"},
			Stderr: []string{"--namespace, --kubernetes are mutually exclusive"},
		},
		{Name: "list.complete-namespace", Args: []string{"__complete", "container", "list", "--namespace", ""}},
	})
}
