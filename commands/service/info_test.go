package service_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestInfo(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "info.human", Args: []string{"service", "info", "apid", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "info.json", Args: []string{"service", "info", "kubelet", "-n", "n4", "-o", "json"}},
		{Name: "info.name", Args: []string{"service", "info", "kubelet", "-n", "n4", "-o", "name"}},
		{
			Name: "info.unhealthy", Version: "talos-v1.13.9",
			Args: []string{"service", "info", "kubelet", "-n", "10.5.0.2"},
		},
		{
			Name: "info.partial", Args: []string{"service", "info", "etcd", "-n", "n1,n4", "-o", "json", "--query", ".errors"}, Code: 4,
			Stderr: []string{"cannot find service etcd on 10.5.0.5 (n4): the node has no service of that name", "hint: its services are apid"},
		},
		{
			Name: "info.none", Args: []string{"service", "info"}, Code: 2,
			Stderr: []string{"want one argument: ID, got no arguments"},
		},
	})
}

func TestCompleteService(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{{
		Name: "info.complete", Args: []string{"__complete", "service", "info", "-n", "n4", ""},
		Stderr: []string{"ShellCompDirectiveNoFileComp"},
	}})
}
