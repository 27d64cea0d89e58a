package imager

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
)

// FuzzBuildFile holds that any text is a build file, which says the same when it is written and read again, or a usage error.
func FuzzBuildFile(f *testing.F) {
	for _, text := range []string{
		"", "version: v1\nkind: Build\n", "version: talosmate/v1\nkind: ImagerBuild\narch: arm64\n", "a: &a [*a]", "[]", "kind: {}\n", FileVersion + ": 1\n",
		"version: " + FileVersion + "\nkind: " + BuildFileKind + "\nembedded: ../x.yaml\n", "version: " + FileVersion + "\nkind: " + BuildFileKind + "\nextensions: [null]\n",
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ParseBuild(text, "")
		if err != nil {
			if errs.ExitCode(err) != errs.Usage {
				t.Fatalf("exit code %d: %v", errs.ExitCode(err), err)
			}

			return
		}

		once, err := marshal(b)
		if err != nil {
			t.Fatal(err)
		}

		again, err := ParseBuild(once, "")
		if err != nil {
			t.Fatalf("%v\n%s", err, once)
		}

		if twice, err := marshal(again); err != nil || string(once) != string(twice) {
			t.Fatalf("%v\n%s\nis written as\n%s", err, once, twice)
		}
	})
}

// FuzzLockFile holds that a lock file is refused unless each of its images has a digest.
func FuzzLockFile(f *testing.F) {
	const head = "version: " + FileVersion + "\nkind: " + LockFileKind + "\n"

	for _, text := range []string{"", head, head + "images:\n- reference: a\n", head + "images:\n- reference: a\n  digest: sha256:00\n", head + "images: [null]\n", "[]", "a: &a [*a]"} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "lock.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}

		l, ok, err := readLock(file)
		if ok != (err == nil) {
			t.Fatalf("%v, %v", ok, err)
		}

		for _, in := range l.Images {
			if ok && in.Digest == "" {
				t.Fatalf("no digest: %+v", in)
			}
		}
	})
}
