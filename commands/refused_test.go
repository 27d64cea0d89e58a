package commands_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/testing/clitest"
)

// TestRefusedLinesHaveDocuments checks that a command line which no command takes is answered with a document where it
// asks for one, and with nothing on stdout otherwise.
func TestRefusedLinesHaveDocuments(t *testing.T) {
	t.Parallel()

	for line, schema := range map[string]string{
		"health --bogus -o json":                         "HealthResult",
		"health --bogus --output=json":                   "HealthResult",
		"service list x -ojson":                          "ServiceList",
		"service list -o json --tail":                    "ServiceList",
		"bogus -o json":                                  "UsageError",
		"service bogus -o json":                          "UsageError",
		"logs --tail many -o ndjson":                     "LogLineList",
		"etcd status -o table -o json -z":                "EtcdStatusList",
		"health --bogus":                                 "",
		"health --bogus -o table":                        "",
		"health --bogus -o nonsense":                     "",
		"health --bogus -- -o json":                      "",
		"health --bogus -o json --query .result.healthy": "",
		"health --bogus -o jsonpath={.result}":           "",
	} {
		got := clitest.Run(t, nil, strings.Fields(line)...)
		if got.Code != 2 || !strings.HasPrefix(got.Stderr, "error: ") {
			t.Errorf("%s: %+v", line, got)
		}

		if schema == "" {
			if got.Stdout != "" {
				t.Errorf("%s: stdout %q", line, got.Stdout)
			}

			continue
		}

		var doc struct {
			Schema string
			Code   string // Of an ndjson line.
			Errors json.RawMessage
		}

		first, _, _ := strings.Cut(got.Stdout, "\n")
		if first == "{" {
			first = got.Stdout
		}

		if err := json.Unmarshal([]byte(first), &doc); err != nil {
			t.Errorf("%s: %v in %q", line, err, got.Stdout)
		}

		if doc.Schema != "talosmate/v1/"+schema {
			t.Errorf("%s: schema %s", line, doc.Schema)
		}

		if !strings.Contains(got.Stdout, `"usage"`) {
			t.Errorf("%s: no error in %s", line, got.Stdout)
		}
	}

	got := clitest.Run(t, []string{"TALOSMATE_OUTPUT=json"}, "bogus")
	if !strings.Contains(got.Stdout, "talosmate/v1/UsageError") {
		t.Errorf("with the variable: %+v", got)
	}
}
