package process_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestProcesses(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "processes.table", Args: []string{"processes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "processes.table.v1.13.9", Version: "talos-v1.13.9", Args: []string{"processes", "-n", "10.5.0.2,10.5.0.5"}},
		{Name: "processes.wide", Args: []string{"processes", "-n", "n4", "-o", "wide"}},
		{Name: "processes.json", Args: []string{"processes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "processes.json.v1.13.9", Version: "talos-v1.13.9", Args: []string{"processes", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "processes.name", Args: []string{"processes", "-n", "n4", "-o", "name"}},
		{
			Name: "processes.partial",
			Args: []string{"processes", "-n", "n3,n4"}, Code: 4,
			Stderr: []string{`cannot list processes on 10.5.0.4 (n3)`, `hint: the node does not answer`},
		},
		{
			Name: "processes.dead",
			Args: []string{"processes", "-n", "10.5.0.6", "-o", "json"}, Code: 6,
			Stderr: []string{`cannot list processes on 10.5.0.6`},
		},
		{Name: "processes.cpu", Args: []string{"ps", "-n", "n1,n4", "--sort", "cpu", "--limit", "3"}},
		{Name: "processes.pid", Args: []string{"processes", "-n", "n1", "--sort", "pid", "-o", "name"}},
		{
			Name: "processes.bad-sort",
			Args: []string{"processes", "-n", "n1", "--sort", "name"}, Code: 2,
			Stderr: []string{`want one of rss, cpu, pid`, `hint: talosmate processes --help`},
		},
		{
			Name: "processes.bad-limit",
			Args: []string{"processes", "-n", "n1", "--limit", "-1"}, Code: 2,
			Stderr: []string{`must not be negative`},
		},
		{
			Name: "processes.watch-json",
			Args: []string{"processes", "-n", "n1", "--watch", "-o", "json"}, Code: 2,
			Stderr: []string{`a watch has no end, and -o json wants one document`, `hint: talosmate processes`, `-o ndjson`},
		},
		{
			Name: "processes.watch-dead",
			Args: []string{"processes", "-n", "10.5.0.6", "--watch"}, Code: 6,
			Stderr: []string{`cannot list processes on 10.5.0.6`},
		},
		{Name: "processes.complete-sort", Args: []string{"__complete", "processes", "--sort", ""}},
	})
}
