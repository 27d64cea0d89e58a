package support

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

const config = `version: v1alpha1
machine:
  type: worker
  token: MACHINE-TOKEN-1
  ca: {crt: Y2VydA==, key: TUFDSElORS1LRVk=}
`

func text(content string) func(context.Context) (Content, error) {
	return func(context.Context) (Content, error) { return Content{Text: []byte(content)}, nil }
}

func options() Options {
	return Options{
		Timeout: time.Minute, Workers: 4, Now: time.Now, Sink: progress.Discard{},
		Manifest: func(m Manifest, _ error) any { return map[string]any{"result": m} },
	}
}

func node(name string, alive error, reads ...Read) NodeReads {
	return NodeReads{
		Target: talos.Target{Address: "10.0.0.1", Hostname: name},
		Alive:  func(context.Context) error { return alive },
		Config: func(context.Context) ([]byte, error) { return []byte(config), nil },
		Reads:  reads,
	}
}

// unpack reads a bundle: its files, and its manifest, whose hashes and sizes are checked.
func unpack(t *testing.T, body []byte) (map[string]string, Manifest) {
	t.Helper()

	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}

	files := map[string]string{}

	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}

		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}

		if _, twice := files[f.Name]; twice || !filepath.IsLocal(f.Name) || strings.ContainsAny(f.Name, `\:`) {
			t.Errorf("bad name %q", f.Name)
		}

		files[f.Name] = string(content)
	}

	var doc struct{ Result Manifest }

	if err := json.Unmarshal([]byte(files["manifest.json"]), &doc); err != nil {
		t.Fatal(err)
	}

	delete(files, "manifest.json")

	for _, e := range doc.Result.Entries {
		sum := sha256.Sum256([]byte(files[e.Path]))
		if e.Status == OK && (e.SHA256 != hex.EncodeToString(sum[:]) || e.SizeBytes != int64(len(files[e.Path]))) {
			t.Errorf("%s: its hash or size is not what the manifest says", e.Path)
		}
	}

	return files, doc.Result
}

func saved(t *testing.T, file string) (map[string]string, Manifest) {
	t.Helper()

	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	return unpack(t, body)
}

// TestNoSecrets gives a bundle secrets in logs, documents, keys, errors and names.
func TestNoSecrets(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "bundle.zip")
	pem := "-----BEGIN EC PRIVATE KEY-----\nPEM-SECRET\n-----END EC PRIVATE KEY-----\n"

	bundle, err := Save(t.Context(), file, Manifest{}, []NodeReads{node(
		"cp-1", nil,
		Read{Path: "a.log", Do: text("joined with MACHINE-TOKEN-1 at 10:00\npassword=PLAIN-SECRET\n" + pem + "\x1b]0;title\x07 end\n")},
		Read{Path: "kernel.log", Do: func(context.Context) (Content, error) {
			return Content{Text: []byte("Command line: talos.config=https://u:USERINFO-SECRET@h/ my.key=KERNEL-SECRET\n"), Kernel: true}, nil
		}},
		Read{Path: "doc.json", Do: func(context.Context) (Content, error) {
			return Content{Document: map[string]any{
				"message": "got TUFDSElORS1LRVk= from the node", "MACHINE-TOKEN-1": 1, "big": uint64(18446744073709551615), "token": "FIELD-SECRET",
			}}, nil
		}},
		Read{Path: "clean.json", Do: func(context.Context) (Content, error) {
			return Content{Document: struct {
				Z int `json:"z"`
				A int `json:"a"`
			}{1, 2}}, nil
		}},
		Read{Path: "failed.json", Do: func(context.Context) (Content, error) {
			return Content{}, errors.New("cannot read: MACHINE-TOKEN-1 is not accepted")
		}},
	)}, nil, options())

	if errs.ExitCode(err) != errs.Partial || bundle.Read != 4 || bundle.Failed != 1 || len(bundle.Missing) != 1 {
		t.Errorf("%+v, %v", bundle, err)
	}

	raw, _ := os.ReadFile(file)
	files, m := unpack(t, raw)
	all := fmt.Sprint(files)

	for _, e := range m.Entries {
		if e.Error != nil {
			all += e.Error.Message
		}
	}

	for _, secret := range []string{
		"MACHINE-TOKEN-1", "PLAIN-SECRET", "PEM-SECRET", "USERINFO-SECRET", "KERNEL-SECRET", "TUFDSElORS1LRVk", "FIELD-SECRET", "\x1b",
	} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in the bundle:\n%s", secret, all)
		}
	}

	for path, want := range map[string]string{
		"nodes/cp-1/a.log": "at 10:00", "nodes/cp-1/doc.json": `"big": 18446744073709551615`, "nodes/cp-1/clean.json": "{\n  \"z\": 1,\n  \"a\": 2\n}\n",
	} {
		if !strings.Contains(files[path], want) {
			t.Errorf("%s: %q does not have %q", path, files[path], want)
		}
	}

	if !m.KnownSecrets {
		t.Error("the manifest does not say that the configurations were read")
	}
}

// TestNamesAreOnlyHints gives nodes and files names that a careless program would follow.
func TestNamesAreOnlyHints(t *testing.T) {
	t.Parallel()

	file := filepath.Join(t.TempDir(), "bundle.zip")

	var nodes []NodeReads

	for _, name := range []string{"../../etc", "..", "C:\\x", "a/b", "a/b", "A_B", "nul", "\x1b[31m", strings.Repeat("x", 500), "cp\u202e1"} {
		nodes = append(nodes, node(name, nil, Read{Path: File("../../evil") + ".log", Do: text("x")}, Read{Path: File("../../evil") + ".log", Do: text("y")}))
	}

	if _, err := Save(t.Context(), file, Manifest{}, nodes, nil, options()); err != nil {
		t.Fatal(err)
	}

	files, m := saved(t, file)
	if len(files) != 20 {
		t.Errorf("%d files: %v", len(files), m.Nodes)
	}

	folders := map[string]bool{}
	for _, n := range m.Nodes {
		folders[strings.ToLower(n.Folder)] = true
	}

	if len(folders) != len(nodes) {
		t.Errorf("two nodes share a folder: %v", m.Nodes)
	}
}

// TestSilentNodes checks what becomes of nodes that do not answer.
func TestSilentNodes(t *testing.T) {
	t.Parallel()

	down := errs.New(errs.Unreachable, "cannot read the version on worker-1: no answer").WithKind(errs.KindUnreachable).OnNode("10.0.0.1")
	denied := errs.New(errs.Unreachable, "cannot list x: PermissionDenied").WithKind(errs.KindPermissionDenied)
	reads := []Read{{Path: "a.log", Do: text("a")}, {Path: "logs", More: func(context.Context) ([]Read, error) {
		return []Read{{Path: "b.log", Do: text("b")}}, nil
	}}}

	asked := false
	dead := []Read{{Path: "a.log", Do: func(context.Context) (Content, error) { asked = true; return Content{}, nil }}, {Path: "logs"}}

	file := filepath.Join(t.TempDir(), "bundle.zip")

	bundle, err := Save(t.Context(), file, Manifest{}, []NodeReads{node("cp-1", nil, reads...), node("worker-1", down, dead...)}, []Read{
		{Path: "x.json", Do: func(context.Context) (Content, error) { return Content{}, denied }},
		{Path: "y.json", Do: func(context.Context) (Content, error) { return Content{}, Skip{"why not"} }},
		{Path: "z.json", Do: func(context.Context) (Content, error) { return Content{Empty: true}, nil }},
		{Path: "p.json", Do: func(context.Context) (Content, error) { panic("broken") }},
	}, options())

	if errs.ExitCode(err) != errs.Partial || bundle.Read != 2 || bundle.Failed != 3 || bundle.Skipped != 2 || asked {
		t.Errorf("%+v, %v, asked again: %t", bundle, err, asked)
	}

	_, m := saved(t, file)

	var got []string
	for _, e := range m.Entries {
		got = append(got, e.Path+" "+e.Status)
	}

	if want := []string{
		"nodes/cp-1/a.log ok", "nodes/cp-1/logs/b.log ok", "nodes/worker-1/a.log failed", "nodes/worker-1/logs failed", "p.json failed",
		"x.json skipped", "y.json skipped", "z.json empty",
	}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// Nobody answers: there is no bundle.
	none := filepath.Join(t.TempDir(), "none.zip")
	if _, err = Save(t.Context(), none, Manifest{}, []NodeReads{node("worker-1", down, dead...)}, nil, options()); errs.ExitCode(err) != errs.Unreachable {
		t.Errorf("%v", err)
	}

	if _, err = os.Stat(none); !os.IsNotExist(err) {
		t.Errorf("a file was left: %v", err)
	}
}

// TestInterrupted ends a collection midway: the old file stays, and there is no other.
func TestInterrupted(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	file := filepath.Join(dir, "bundle.zip")

	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	by := errs.New(errs.Interrupted, "interrupted")

	_, err := Save(ctx, file, Manifest{}, []NodeReads{node("cp-1", nil, Read{Path: "a.log", Do: text("a")}, Read{
		Path: "b.log", Do: func(ctx context.Context) (Content, error) {
			cancel(by)
			<-ctx.Done()

			return Content{}, ctx.Err()
		},
	})}, nil, options())
	if errs.ExitCode(err) != errs.Interrupted {
		t.Errorf("%v", err)
	}

	left, _ := os.ReadDir(dir)
	if body, _ := os.ReadFile(file); string(body) != "old" || len(left) != 1 {
		t.Errorf("%q, %v", body, left)
	}
}

// TestBounds fills a bundle.
func TestBounds(t *testing.T) {
	t.Parallel()

	big := strings.Repeat("a line of a log\n", maxEntry/16)
	reads := []Read{{Path: "huge.log", Do: text(big + "more")}}

	c := newCollection(io.Discard, Manifest{}, options())
	c.size = maxBundle - 10

	reads = append(reads, Read{Path: "full.log", Do: text("more than ten bytes")}, Read{Path: "fits.log", Do: text("ten bytes")})

	m, err := c.run(t.Context(), nil, reads)
	if err != nil || m.Skipped != 2 || m.Read != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestEncrypted decrypts a bundle again, and looks for anything that is not encrypted.
func TestEncrypted(t *testing.T) {
	t.Parallel()

	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	list := filepath.Join(dir, "recipients")

	if err = os.WriteFile(list, []byte("# the team\n\n"+key.Recipient().String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	o := options()
	if o.Recipients, err = Recipients([]string{list, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN a@b"}); err != nil || len(o.Recipients) != 2 {
		t.Fatal(o.Recipients, err)
	}

	file := filepath.Join(dir, "bundle.zip.age")

	bundle, err := Save(t.Context(), file, Manifest{}, []NodeReads{node("cp-1", nil, Read{Path: "a.log", Do: text("hello")})}, nil, o)
	if err != nil || !bundle.Encrypted {
		t.Fatal(bundle, err)
	}

	body, _ := os.ReadFile(file)
	if bytes.Contains(body, []byte("a.log")) || bytes.Contains(body, []byte("PK\x03\x04")) || !bytes.HasPrefix(body, []byte("age-encryption.org/v1")) {
		t.Error("it is not encrypted")
	}

	sum := sha256.Sum256(body)
	if bundle.SHA256 != hex.EncodeToString(sum[:]) || bundle.SizeBytes != int64(len(body)) {
		t.Errorf("%+v", bundle)
	}

	plain, err := age.Decrypt(bytes.NewReader(body), key)
	if err != nil {
		t.Fatal(err)
	}

	inside, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}

	if files, _ := unpack(t, inside); files["nodes/cp-1/a.log"] != "hello" {
		t.Errorf("%v", files)
	}
}

// TestBadRecipients refuses what is not a public key, and does not repeat a private one.
func TestBadRecipients(t *testing.T) {
	t.Parallel()

	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}

		return path
	}

	for _, given := range []string{
		key.String(), strings.ToLower(key.String()), write("key", "# created\n"+key.String()+"\n"), write("ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"),
		"age1nonsense", "ssh-ed25519 nonsense", write("empty", "# nobody\n"), filepath.Join(dir, "missing"), dir,
	} {
		got, err := Recipients([]string{given})
		if errs.ExitCode(err) != errs.Usage || got != nil || strings.Contains(strings.ToUpper(err.Error()), key.String()[:30]) {
			t.Errorf("%.20s…: %v, %v", given, got, err)
		}
	}
}
