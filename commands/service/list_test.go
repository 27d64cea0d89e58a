package service_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestList(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "list.table", Args: []string{"service", "list", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "list.json", Args: []string{"service", "list", "-n", "10.5.0.5", "-o", "json"}},
		{
			Name: "list.unhealthy.wide", Version: "talos-v1.13.9",
			Args: []string{"service", "list", "-n", "10.5.0.5", "-o", "wide"},
		},
		{
			Name: "list.partial", Args: []string{"service", "list", "-A", "-o", "yaml", "--query", ".errors"}, Code: 4,
			Stderr: []string{"cannot list services on 10.5.0.4 (n3)", "no route to host", "hint: the node does not answer"},
		},
		{
			Name: "list.query", Args: []string{"service", "list", "-n", "n4", "--query", ".items[] | select(.health != \"healthy\") | .id"},
		},
		{Name: "list.name", Args: []string{"svc", "ls", "-n", "n1", "-o", "name"}},
		{Name: "list.name-of-several", Args: []string{"svc", "ls", "-n", "n1,n2", "-o", "name"}},
		{Name: "list.ndjson", Args: []string{"service", "list", "-n", "n1", "-o", "ndjson", "--sort-by", "-id"}},
		{
			Name: "list.unknown-node", Args: []string{"service", "list", "-n", "n9", "-o", "json"}, Code: 2,
			Stderr: []string{`there is no node "n9"`, "known nodes: n1 (10.5.0.2)"},
		},
		{Name: "list.dead", Args: []string{"service", "list", "-n", "10.5.0.6", "-o", "json"}, Code: 6},
	})
}
