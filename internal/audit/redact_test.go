package audit_test

import (
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/audit"
)

func TestRedactHidesSecretsInArguments(t *testing.T) {
	t.Parallel()

	got := strings.Join(audit.Redact([]string{
		"--gate-command=[curl -H 'X: SECRET-command' host]", "--on-end=curl https://hooks.example.org/SECRET-hook", "--before-node", "SECRET-before", "--kernel-arg=[x=SECRET-karg]", "--meta=[0xa=SECRET-meta]",
		"--config-patch=[token: SECRET-patch]", "--config-patch-worker", "SECRET-worker", "-p", "SECRET-short", "--overlay-option=[k=SECRET-option]",
		"--image=https://u:SECRET-userinfo@host/image", "https://host/?token=SECRET-query", "-p", "@file.yaml", "--to=v1.13.9", "token=SECRET-assigned",
	}), "\n")

	if strings.Contains(got, "SECRET") {
		t.Errorf("shows a secret:\n%s", got)
	}

	for _, kept := range []string{"--gate-command=[redacted]", "@host/image", "@file.yaml", "--to=v1.13.9"} {
		if !strings.Contains(got, kept) {
			t.Errorf("hides %q:\n%s", kept, got)
		}
	}
}
