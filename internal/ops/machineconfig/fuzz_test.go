package machineconfig

import (
	"bytes"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// FuzzConfiguration holds that what is read as a configuration can be written, is read again, and is then written alike.
func FuzzConfiguration(f *testing.F) {
	for _, text := range fuzzTexts() {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := Parse(text)
		if err != nil {
			if errs.ExitCode(err) != errs.Usage {
				t.Fatalf("exit code %d: %v", errs.ExitCode(err), err)
			}

			return
		}

		once, err := cfg.YAML()
		if err != nil {
			return
		}

		again, err := Parse(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}

		twice, err := again.YAML()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\nis written as\n%s", err, once, twice)
		}
	})
}

// FuzzPatch applies any text as a patch: it is refused, or what comes out is a configuration, and the same the next time.
func FuzzPatch(f *testing.F) {
	for _, text := range fuzzTexts() {
		f.Add([]byte(text))
	}

	const base = "version: v1alpha1\nmachine:\n  type: worker\n  kubelet: {}\ncluster:\n  controlPlane:\n    endpoint: https://10.0.0.1:6443\n" +
		"---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: a\n"

	f.Fuzz(func(t *testing.T, text []byte) {
		patches, err := LoadPatches([][]byte{text})
		if err != nil {
			return
		}

		out, err := patches.Apply([]byte(base), true)
		if err != nil {
			return
		}

		if _, err = Parse(out); err != nil {
			t.Fatalf("the result cannot be read: %v\n%s", err, out)
		}

		if again, err := patches.Apply([]byte(base), true); err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%v\n%s\nand then\n%s", err, out, again)
		}
	})
}

func fuzzTexts() []string {
	return []string{
		"", "---\n", "# a\n", "[]", "null", "machine:\n  type: worker\n", "machine: null\ncluster:\n", "version: v1alpha1\nmachine:\n  network:\n    interfaces: [null]\n",
		"apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: b\n", "apiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n",
		"- op: replace\n  path: /machine/type\n  value: controlplane\n", `[{"op":"remove","path":"/none"}]`, `{"machine": {"sysctls": {"a": "1"}}}`,
		"apiVersion: v1alpha1\nkind: Later\nname: x\na: [1, {b: 2}]\n", "machine:\n  env: &e {A: b}\n  sysctls: *e\n",
	}
}
