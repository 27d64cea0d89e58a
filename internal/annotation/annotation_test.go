package annotation_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/annotation"
)

func TestCommand(t *testing.T) {
	t.Parallel()

	for want, f := range map[string]annotation.Finding{
		"::error::it failed":                        {Severity: annotation.Error, Message: "it failed"},
		"::warning title=etcd-alarms cp-1::NOSPACE": {Severity: annotation.Warning, Title: "etcd-alarms cp-1", Message: "NOSPACE"},
		"::error file=a%2Cb%3A1.yaml,line=7,title=validate::100%25 wrong%0Ahint: mend: it, now": {
			Severity: annotation.Error, Title: "validate", Message: "100% wrong\nhint: mend: it, now", File: "a,b:1.yaml", Line: 7,
		},
		"::error title=validate::stdin":    {Severity: annotation.Error, Title: "validate", Message: "stdin", File: "-", Line: 3},
		"::error::a%0A::add-mask::b":       {Severity: annotation.Error, Message: "a\n::add-mask::b"},
		"::error title=x%3A%3Ay::one line": {Severity: annotation.Error, Title: "x::y", Message: "one\rline"},
		"::error::\ufffd[2J of a node":     {Severity: annotation.Error, Message: "\x1b[2J of a node"},
		"::warning file=cp.yaml::no line":  {Severity: annotation.Warning, Message: "no line", File: "cp.yaml"},
	} {
		if got := f.Command(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// TestCommandHidesSecrets: what the redaction knows is in no part of the line.
func TestCommandHidesSecrets(t *testing.T) {
	t.Parallel()

	key := "-----BEGIN ED25519 PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHNlY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3Jl\n-----END ED25519 PRIVATE KEY-----"
	f := annotation.Finding{Severity: annotation.Error, Title: "x", Message: "cannot read `token: abcdef.0123456789abcdef` " + key}

	if got := f.Command(); strings.Contains(got, "MC4CAQAw") {
		t.Errorf("the key is in %q", got)
	}
}
