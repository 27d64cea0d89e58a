package untar_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/untar"
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

	sum, err := untar.Tree(bytes.NewReader(archive(t,
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

			if _, err := untar.Tree(bytes.NewReader(archive(t, entries...)), dir, "/etc"); err == nil {
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

	_, err := untar.Tree(bytes.NewReader(archive(t,
		tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: outer},
		tar.Header{Name: "a/evil", Typeflag: tar.TypeReg},
		tar.Header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "c/.."},
		tar.Header{Name: "b/x", Typeflag: tar.TypeReg},
	)), dir, "/etc")

	if left, _ := os.ReadDir(outer); len(left) != 1 {
		t.Errorf("outside: %v (%v)", left, err)
	}
}

// TestTreeResolvesLinks makes links that stay inside by their text and lead outside through others, and links that
// stay inside.
func TestTreeResolvesLinks(t *testing.T) {
	t.Parallel()

	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	hard := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
	}

	for name, tt := range map[string]struct {
		entries        []tar.Header
		links, skipped int
		refused        bool
	}{
		"below a link":        {[]tar.Header{dir("a/"), dir("a/b/"), link("a/b/c", "../.."), link("a/b/c/up", "../../../")}, 1, 1, false},
		"a file below a link": {[]tar.Header{dir("a/"), link("l", "a"), {Name: "l/x", Typeflag: tar.TypeReg}}, 1, 1, false},
		"through a link":      {[]tar.Header{dir("a/b/"), link("a/b/c", "../.."), link("z", "a/b/c/../x")}, 1, 1, false},
		"made before":         {[]tar.Header{link("z", "a/b/c/../x"), dir("a/b/"), link("a/b/c", "../..")}, 1, 1, false},
		"through two": {[]tar.Header{
			dir("a/b/"), link("a/b/c", "../.."), link("a/d", "b/c/a/b/c"), link("z", "a/d/../secret"),
		}, 2, 1, false},
		"a circle":            {[]tar.Header{link("a", "b"), link("b", "a")}, 0, 2, false},
		"a long chain":        {[]tar.Header{dir("a/b/c/"), link("a/b/l", "c"), link("a/l", "b/l"), link("l", "a/l/../../b/c")}, 3, 0, false},
		"to the tree itself":  {[]tar.Header{dir("a/"), link("a/up", "..")}, 1, 0, false},
		"over a directory":    {[]tar.Header{{Name: "a/b/x", Typeflag: tar.TypeReg}, link("a/b", "..")}, 0, 0, true},
		"a hard link of link": {[]tar.Header{dir("a/b/"), link("a/b/c", "../.."), hard("c", "a/b/c")}, 0, 0, true},
		"twice":               {[]tar.Header{link("a", "b"), link("a", "c")}, 0, 0, true},
		"deep":                {[]tar.Header{{Name: strings.Repeat("a/", 3000), Typeflag: tar.TypeDir}}, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			outer := t.TempDir()
			tree := filepath.Join(outer, "dest")

			if err := os.Mkdir(tree, 0o700); err != nil {
				t.Fatal(err)
			}

			sum, err := untar.Tree(bytes.NewReader(archive(t, tt.entries...)), tree, "/etc")
			if (err != nil) != tt.refused {
				t.Fatalf("%v", err)
			}

			if !tt.refused && (sum.Links != tt.links || len(sum.Skipped) != tt.skipped) {
				t.Errorf("%+v, want %d links and %d skipped", sum, tt.links, tt.skipped)
			}

			contained(t, outer, tree)
		})
	}
}

// contained fails the test when anything is beside the tree, or a link in it leads out of it.
func contained(t *testing.T, outer, tree string) {
	t.Helper()

	if left, err := os.ReadDir(outer); err != nil || len(left) != 1 {
		t.Errorf("outside: %v, %v", left, err)
	}

	tree, err := filepath.EvalSymlinks(tree)
	if err != nil {
		t.Fatal(err)
	}

	err = filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type() != os.ModeSymlink {
			return err
		}

		// Not joined, which would resolve dots by their text.
		target, err := os.Readlink(path)
		parent, _ := filepath.Split(target)

		for _, to := range []string{target, parent} {
			end, missing := filepath.EvalSymlinks(filepath.Dir(path) + "/" + to)
			if missing == nil && end != tree && !strings.HasPrefix(end, tree+string(filepath.Separator)) {
				t.Errorf("%s leads to %s", path, end)
			}
		}

		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// FuzzTree unpacks archives of any entries: nothing exists outside of the tree, and no link leads out of it.
func FuzzTree(f *testing.F) {
	// Each line is an entry: d NAME, f NAME, l NAME TARGET, h NAME TARGET.
	for _, seed := range []string{
		"d a\nd a/b\nl a/b/c ../..\nl a/b/c/up ../../../",
		"l z a/b/c/../x\nd a/b\nl a/b/c ../..",
		"d a/b\nl a/b/c ../..\nh c a/b/c",
		"f ../evil", "f /evil", "l a /etc/b\nf b", "l a .\nl b a/..\nl c b/../..", "h a ../secret", "l a b\nl b a",
		"f a\nl a/b c", "l a/../b c", "d .\nl . ..", "l a b//../../x\nd b",
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, script string) {
		var buf bytes.Buffer

		zw := gzip.NewWriter(&buf)
		tw := tar.NewWriter(zw)

		for _, line := range strings.Split(script, "\n") {
			words := append(strings.SplitN(line, " ", 3), "", "", "")
			kind := map[string]byte{"d": tar.TypeDir, "f": tar.TypeReg, "l": tar.TypeSymlink, "h": tar.TypeLink}[words[0]]
			_ = tw.WriteHeader(&tar.Header{Typeflag: kind, Name: words[1], Linkname: words[2], Mode: 0o755}) // what tar cannot hold is not sent
		}

		_ = tw.Close()
		_ = zw.Close()

		outer := t.TempDir()
		tree := filepath.Join(outer, "dest")

		if err := os.Mkdir(tree, 0o700); err != nil {
			t.Fatal(err)
		}

		_, _ = untar.Tree(&buf, tree, "/etc") // refused or not
		contained(t, outer, tree)
	})
}

// A node's archive spends nothing that it does not send: no holes of a sparse file, no padding without an end, no lists
// without an end.
func TestTreeSpendsLittle(t *testing.T) {
	t.Parallel()

	block := func(name string, kind byte, content string, size int64) []byte {
		var buf bytes.Buffer

		w := tar.NewWriter(&buf)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o600, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}

		header := buf.Bytes()
		header[156] = kind

		if size > 0 {
			copy(header[124:136], fmt.Sprintf("%011o\x00", size))
		}

		copy(header[148:156], "        ")

		sum := 0
		for _, b := range header {
			sum += int(b)
		}

		copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))

		return append(append(header, content...), make([]byte, (512-len(content)%512)%512)...)
	}

	record := func(key, value string) string {
		for n := 0; ; n++ {
			if line := fmt.Sprintf("%d %s=%s\n", n, key, value); len(line) == n {
				return line
			}
		}
	}

	const huge = "8000000000000000"

	// GNU's format 1.0: the map of the holes is at the beginning of the content. No data, then a hole up to the size.
	holes := append(block("PaxHeaders/a", 'x', record("GNU.sparse.major", "1")+record("GNU.sparse.minor", "0")+
		record("GNU.sparse.name", "a")+record("GNU.sparse.realsize", huge), 0), block("a", tar.TypeReg, "1\n0\n0\n"+strings.Repeat("\x00", 506), 0)...)
	holes = append(holes, make([]byte, 1024)...)

	pack := func(parts ...[]byte) []byte {
		var buf bytes.Buffer

		w := gzip.NewWriter(&buf)
		for _, part := range parts {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}

		if err := w.Close(); err != nil {
			t.Fatal(err)
		}

		return buf.Bytes()
	}

	sum, err := untar.Tree(bytes.NewReader(pack(holes)), t.TempDir(), "/etc")
	if err != nil || len(sum.Skipped) != 1 || sum.Skipped[0].Reason != "a sparse file" {
		t.Errorf("a sparse file of %s bytes: %+v, %v", huge, sum, err)
	}

	padded := pack(block("a", tar.TypeReg, "x", 0), make([]byte, 1024), make([]byte, 2<<20))
	if _, err := untar.Tree(bytes.NewReader(padded), t.TempDir(), "/etc"); err == nil || !strings.Contains(err.Error(), "data follows its end") {
		t.Errorf("padding: %v", err)
	}
}

func TestTreeBroken(t *testing.T) {
	t.Parallel()

	whole := archive(t, tar.Header{Name: "a", Typeflag: tar.TypeReg}, tar.Header{Name: "b", Typeflag: tar.TypeReg})

	for _, cut := range []int{0, 5, len(whole) / 2, len(whole) - 5} {
		if _, err := untar.Tree(bytes.NewReader(whole[:cut]), t.TempDir(), "/etc"); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}

	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1

	if _, err := untar.Tree(bytes.NewReader(flipped), t.TempDir(), "/etc"); err == nil {
		t.Error("a wrong checksum was accepted")
	}
}
