package cluster

import (
	"bytes"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/output"
)

func finding(status, id, node, message string) health.Finding {
	return health.Finding{ID: id, Status: status, Node: node, Message: message, Hint: "look"}
}

// TestHealthTable shows a table that is written as a whole, and one whose findings come in two parts. Two findings of one
// check without a node are two rows.
func TestHealthTable(t *testing.T) {
	t.Parallel()

	slow := finding(health.Fail, "talos-api", "n1", "no answer")
	quick := []health.Finding{
		finding(health.OK, "talos-api", "n2", "Talos v1.13.8"),
		finding(health.OK, "talos-discovery", "", "2 members"),
		finding(health.Warn, "talos-discovery", "", "n3 was replaced"),
	}
	res := health.NewResult(health.ScopeFull, "client", append(quick[:3:3], slow))

	const end = "\nhint (talos-discovery): look\nhint (talos-api): look\nNOT healthy: 2 ok, 1 failed, 1 warning, 0 skipped, 0 unknown\n"

	for _, c := range []struct {
		name   string
		parted bool
		want   string
	}{
		{"whole", false, "STATUS   CHECK             NODE   MESSAGE\n" +
			"ok       talos-discovery   -      2 members\n" +
			"warn     talos-discovery   -      n3 was replaced\n" +
			"fail     talos-api         n1     no answer\n" +
			"ok       talos-api         n2     Talos v1.13.8\n" + end},
		{"parted", true, "STATUS    CHECK                    NODE   MESSAGE\n" +
			"ok        talos-discovery          -      2 members\n" +
			"ok        talos-api                n2     Talos v1.13.8\n" +
			"warn      talos-discovery          -      n3 was replaced\n" +
			"fail      talos-api                n1     no answer\n" + end},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			var out bytes.Buffer

			table := newHealthTable(&output.Printer{Out: &out})

			if c.parted {
				table.flush() // there is nothing yet
				table.add(quick[0])
				table.add(quick[1])
				table.flush()
				table.add(quick[2])
				table.add(slow)
			}

			if err := table.finish(&out, res); err != nil {
				t.Fatal(err)
			}

			if out.String() != c.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), c.want)
			}
		})
	}
}
