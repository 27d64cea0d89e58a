package events_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

func TestEvents(t *testing.T) {
	t.Parallel()

	tail := map[string]string{"MachineService.Events": "tail"}

	clitest.Test(t, []clitest.Recorded{
		{Name: "events.ndjson", Args: []string{"events", "-n", "n1", "-o", "ndjson", "--filter", "MachineStatusEvent"}, Variants: tail},
		{Name: "events.json", Args: []string{"events", "-n", "n1", "-o", "json", "--filter", "AddressEvent"}, Variants: tail},
		{Name: "events.table", Args: []string{"events", "-n", "n1", "-o", "table", "--filter", "ServiceStateEvent"}, Variants: tail},
		{Name: "events.default", Args: []string{"events", "-n", "n1"}, Variants: tail},
		{Name: "events.none", Args: []string{"events", "-n", "n1", "-o", "json", "--filter", "nothing"}, Variants: tail},
		{Name: "events.partial", Args: []string{"events", "-n", "10.5.0.2,10.5.0.4", "-o", "json", "--filter", "AddressEvent"}, Variants: tail, Code: 4},
		{Name: "events.filter-tail", Args: []string{"events", "-n", "n1", "--filter", "ServiceStateEvent", "--tail", "2"}, Variants: tail},
		{Name: "events.since-tail", Args: []string{"events", "-n", "n1", "--since", "2020-01-01T00:00:00Z", "--tail", "3"}, Variants: tail},
		{Name: "events.bad-since", Args: []string{"events", "-n", "n1", "--since", "yesterday"}, Code: 2},
	})
}
