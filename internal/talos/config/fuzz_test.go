package config

import (
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// FuzzTalosconfig holds that any text is a talosconfig or a usage error, and that each of its contexts can be asked for.
func FuzzTalosconfig(f *testing.F) {
	for _, text := range []string{
		"", "context: a\ncontexts:\n  a:\n    endpoints: [10.0.0.1]\n", "contexts:\n  a:\n", "contexts: {a: null, b: {target: 10.0.0.2}}\n", "contexts: []", "context: [a]",
		"contexts:\n  a: {ca: '%%%', crt: aGk=, key: aGk=, nodes: [null]}\n", "a: &a [*a]", "contexts: {\"\\u001b[2J\": {}}",
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := parseConfig(text, "talosconfig", OriginFlag)
		if err != nil {
			if errs.ExitCode(err) != errs.Usage {
				t.Fatalf("exit code %d: %v", errs.ExitCode(err), err)
			}

			return
		}

		for _, name := range append(cfg.ContextNames(), "", "none") {
			if _, err = cfg.Pick(name); err != nil && errs.ExitCode(err) != errs.Usage {
				t.Fatalf("context %q: exit code %d: %v", name, errs.ExitCode(err), err)
			}
		}
	})
}
