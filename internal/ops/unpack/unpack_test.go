package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/unpack"
)

func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()

	var buf bytes.Buffer

	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)

	for _, h := range entries {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = "content of " + h.Name
			h.Size = int64(len(body))
		}

		if h.Mode == 0 {
			h.Mode = 0o644
		}

		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}

		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}

	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}

	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}

	return buf.Bytes()
}

func TestTree(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	sum, err := unpack.Tree(bytes.NewReader(archive(t,
		tar.Header{Name: "ro/", Typeflag: tar.TypeDir, Mode: 0o555, ModTime: at},
		tar.Header{Name: "ro/tool", Typeflag: tar.TypeReg, Mode: 0o4750, ModTime: at},
		tar.Header{Name: "deep/er/file", Typeflag: tar.TypeReg},
		tar.Header{Name: "deep/up", Typeflag: tar.TypeSymlink, Linkname: "../ro/tool"},
		tar.Header{Name: "deep/abs", Typeflag: tar.TypeSymlink, Linkname: "/etc/ro/tool"},
		tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/usr/bin"},
		tar.Header{Name: "climb", Typeflag: tar.TypeSymlink, Linkname: "../../x"},
		tar.Header{Name: "null", Typeflag: tar.TypeChar},
	)), dir, "/etc")
	if err != nil {
		t.Fatal(err)
	}

	if sum.Files != 2 || sum.Directories != 1 || sum.Links != 2 || len(sum.Skipped) != 3 {
		t.Errorf("%+v", sum)
	}

	if info, err := os.Stat(filepath.Join(dir, "ro", "tool")); err != nil || info.Mode() != 0o750 || !info.ModTime().Equal(at) {
		t.Errorf("%v %v", info.Mode(), err)
	}

	if info, err := os.Stat(filepath.Join(dir, "ro")); err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	for _, link := range []string{"deep/up", "deep/abs"} {
		if body, err := os.ReadFile(filepath.Join(dir, link)); err != nil || string(body) != "content of ro/tool" {
			t.Errorf("%s: %q %v", link, body, err)
		}
	}

	if err := os.Chmod(filepath.Join(dir, "ro"), 0o700); err != nil { // so that the test can clean up
		t.Fatal(err)
	}
}

func TestTreeRefuses(t *testing.T) {
	t.Parallel()

	for name, entries := range map[string][]tar.Header{
		"parent":             {{Name: "../evil", Typeflag: tar.TypeReg}},
		"parent within":      {{Name: "a/../../evil", Typeflag: tar.TypeReg}},
		"absolute":           {{Name: "/evil", Typeflag: tar.TypeReg}},
		"hard link":          {{Name: "a", Typeflag: tar.TypeLink, Linkname: "../secret"}},
		"absolute hard link": {{Name: "a", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"directory":          {{Name: "../evil/", Typeflag: tar.TypeDir}},
		"link name":          {{Name: "../evil", Typeflag: tar.TypeSymlink, Linkname: "x"}},
		"twice":              {{Name: "a", Typeflag: tar.TypeReg}, {Name: "a", Typeflag: tar.TypeReg}},
		"over a link":        {{Name: "b", Typeflag: tar.TypeReg}, {Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"}, {Name: "a", Typeflag: tar.TypeReg}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			outer := t.TempDir()
			dir := filepath.Join(outer, "dest")

			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}

			if err := os.WriteFile(filepath.Join(outer, "secret"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}

			if _, err := unpack.Tree(bytes.NewReader(archive(t, entries...)), dir, "/etc"); err == nil {
				t.Error("accepted")
			}

			if left, _ := os.ReadDir(outer); len(left) != 2 {
				t.Errorf("outside: %v", left)
			}
		})
	}
}

// A link that leaves the tree is not made, so that what the archive puts below its name stays inside.
func TestTreeWritesThroughNoLink(t *testing.T) {
	t.Parallel()

	outer := t.TempDir()
	dir := filepath.Join(outer, "dest")

	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}

	_, err := unpack.Tree(bytes.NewReader(archive(t,
		tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: outer},
		tar.Header{Name: "a/evil", Typeflag: tar.TypeReg},
		tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "c/.."},
		tar.Header{Name: "b/x", Typeflag: tar.TypeReg},
	)), dir, "/etc")

	if left, _ := os.ReadDir(outer); len(left) != 1 {
		t.Errorf("outside: %v (%v)", left, err)
	}
}

func TestTreeBroken(t *testing.T) {
	t.Parallel()

	whole := archive(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "b", Typeflag: tar.TypeReg})

	for _, cut := range []int{0, 5, len(whole) / 2, len(whole) - 5} {
		if _, err := unpack.Tree(bytes.NewReader(whole[:cut]), t.TempDir(), "/etc"); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}

	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1

	if _, err := unpack.Tree(bytes.NewReader(flipped), t.TempDir(), "/etc"); err == nil {
		t.Error("a wrong checksum was accepted")
	}
}
