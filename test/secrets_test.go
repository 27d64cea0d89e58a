package test

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v4"
)

// asked are command lines that ask for secrets, so that their output has some. Files that have secrets because the script
// asked for them are named in the script, with the reason: asked-for WHY FILE...
var asked = map[string]*regexp.Regexp{ //nolint:gochecknoglobals // a table
	"--show-secrets shows them":                   regexp.MustCompile(`--show-secrets`),
	"the lab's own view of its nodes":             regexp.MustCompile(`talosmate-lab ctl|^> (!? ?)?(ctl|lab|leak) `),
	"credentials are what was asked for":          regexp.MustCompile(`talosmate (kubeconfig -|talosconfig new|config new|gen (secrets|config))\b`),
	"the raw bytes of a file that the user names": regexp.MustCompile(`talosmate fs (read|cp)\b`),
}

// watch knows the secrets of a script's lab, and looks for them in all that its programs printed and wrote.
type watch struct {
	secrets map[string]string // What they are, by their values.
	given   map[string]string // The files that are the script's own, with their checksums.
	allowed map[string]string // Files that the script asked for, with the reasons.
	labs    map[string]bool   // The labs' own directories.
}

type watchKey struct{}

func newWatch() *watch {
	return &watch{secrets: map[string]string{}, given: map[string]string{}, allowed: map[string]string{}, labs: map[string]bool{}}
}

// secretName is what fields with secrets are called in configurations and credentials.
var secretName = regexp.MustCompile(`(?i)(^key|private-?key|preshared-?key|client-key-data|token|secret|password|passphrase|^auth)$`) //nolint:gochecknoglobals // a table

// least is how long a value must be to be told from usual ones.
const least = 16

// learn takes the secrets of YAML documents, which may have other texts between them.
func (w *watch) learn(from string, text []byte) {
	var walk func(where, name string, v any)

	walk = func(where, name string, v any) {
		switch typed := v.(type) {
		case map[string]any:
			for key, value := range typed {
				walk(where+"."+key, key, value)
			}
		case []any:
			for _, value := range typed {
				walk(where, name, value)
			}
		case string:
			if value := strings.TrimSpace(typed); secretName.MatchString(name) && len(value) >= least && !strings.ContainsAny(value, " /") ||
				strings.Contains(value, "PRIVATE KEY-----") {
				w.secrets[value] = from + where
			}
		}
	}

	dec := yaml.NewDecoder(bytes.NewReader(text))

	for {
		var doc any
		if dec.Decode(&doc) != nil {
			return
		}

		walk("", "", doc)
	}
}

// learnLab takes the secrets of all nodes that have a configuration now, and the keys of the lab's talosconfig files.
func (w *watch) learnLab(dir string) {
	w.labs[dir] = true

	var info struct {
		Control string
		Nodes   []struct{ Name string }
	}

	raw, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil || json.Unmarshal(raw, &info) != nil {
		return // it did not start, or was ended by the script
	}

	for _, n := range info.Nodes {
		body, _ := json.Marshal(map[string]string{"verb": "config", "node": n.Name})

		resp, err := http.Post(strings.TrimSuffix(info.Control, "/")+"/ctl", "application/json", bytes.NewReader(body)) //nolint:noctx // it answers immediately
		if err != nil {
			return
		}

		var answer struct{ Config string }
		if json.NewDecoder(resp.Body).Decode(&answer) == nil {
			w.learn(n.Name, []byte(answer.Config))
		}

		_ = resp.Body.Close()
	}

	files, _ := filepath.Glob(filepath.Join(dir, "*config*"))
	for _, file := range files {
		if raw, err = os.ReadFile(file); err == nil {
			w.learn(filepath.Base(file), raw)
		}
	}
}

// needle is a form of a secret.
type needle struct {
	bytes []byte
	what  string
}

// forms are how a secret may be written: as it is, in base64 at any place of a longer text, and, where it is base64
// itself, what it stands for, as bytes and in hex. Of keys it is what is private of them: the public half is in certificates.
// A part is enough.
func forms(secret, what string) []needle {
	var out []needle

	add := func(form string, b []byte) {
		if b = middle(b); len(b) >= least-4 {
			out = append(out, needle{b, what + " (" + form + ")"})
		}
	}

	coded := func(form string, b []byte) {
		for shift := range min(3, len(b)) {
			whole := b[shift : shift+(len(b)-shift)/3*3]
			add(form, []byte(base64.RawStdEncoding.EncodeToString(whole)))
			add(form, []byte(base64.RawURLEncoding.EncodeToString(whole)))
		}
	}

	bytesOf := func(form string, b []byte) {
		add(form, b)
		add(form+", in hex", []byte(hex.EncodeToString(b)))
		add(form+", in capital hex", []byte(strings.ToUpper(hex.EncodeToString(b))))
		coded(form+", in base64", b)
	}

	plain, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(plain) < least {
		plain = []byte(secret)
	}

	if block, _ := pem.Decode(plain); block != nil {
		bytesOf("its private number", private(block.Bytes))

		// A line of the private part: the first one of short keys, the last but one of long keys.
		lines := strings.Fields(string(plain[bytes.IndexByte(plain, '\n'):bytes.LastIndex(plain, []byte("-----END"))]))
		line := lines[max(0, len(lines)-2)]

		if len(lines) <= 4 {
			line = lines[0][min(24, len(lines[0])):min(50, len(lines[0]))]
		}

		add("in PEM", []byte(line))
		coded("PEM in base64", middle([]byte(line)))

		return out
	}

	add("as it is", []byte(secret))
	coded("in base64", []byte(secret))

	// The part of a bootstrap token after the dot is the secret one.
	if _, tail, found := strings.Cut(secret, "."); found && len(secret) < 2*least {
		add("without its ID", []byte(tail))
	}

	if string(plain) != secret {
		bytesOf("decoded", plain)
	}

	return out
}

// middle is a part of a long text that is enough to tell it from others.
func middle(b []byte) []byte {
	const enough = 24

	if len(b) <= enough {
		return b
	}

	return b[(len(b)-enough)/2 : (len(b)+enough)/2]
}

func scalar(key *ecdsa.PrivateKey) []byte {
	raw, err := key.Bytes()
	if err != nil {
		return nil
	}

	return raw
}

// private is the number of a private key that nothing else has.
func private(der []byte) []byte {
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return scalar(key)
	}

	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key.D.Bytes()
	}

	switch key, _ := x509.ParsePKCS8PrivateKey(der); typed := key.(type) {
	case ed25519.PrivateKey:
		return typed.Seed()
	case *ecdsa.PrivateKey:
		return scalar(typed)
	case *rsa.PrivateKey:
		return typed.D.Bytes()
	default:
		return nil
	}
}

// finder finds needles in one pass.
type finder struct {
	starts  [1 << 16]bool
	needles map[[least - 4]byte][]needle
}

func (w *watch) finder() *finder {
	f := &finder{needles: map[[least - 4]byte][]needle{}}

	for secret, what := range w.secrets {
		for _, n := range forms(secret, what) {
			f.starts[int(n.bytes[0])<<8|int(n.bytes[1])] = true
			start := [least - 4]byte(n.bytes)
			f.needles[start] = append(f.needles[start], n)
		}
	}

	return f
}

// in names the secrets that are in a text.
func (f *finder) in(text []byte) []string {
	found := map[string]bool{}

	for i := 0; i+least-4 <= len(text); i++ {
		if !f.starts[int(text[i])<<8|int(text[i+1])] {
			continue
		}

		for _, n := range f.needles[[least - 4]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], n.bytes) {
				found[n.what] = true
			}
		}
	}

	return slices.Sorted(maps.Keys(found))
}

// log looks into what a script's programs printed. It returns what should not be there.
func (w *watch) log(text string) []string {
	var out []string

	f := w.finder()

	for section := range strings.SplitSeq("\n"+text, "\n> ") {
		line, _, _ := strings.Cut(section, "\n")

		if found := f.in([]byte(section)); len(found) > 0 && !askedFor("> "+line) && !w.mentions(line) {
			out = append(out, fmt.Sprintf("%q printed %s", line, strings.Join(found, ", ")))
		}
	}

	return out
}

func askedFor(line string) bool {
	for _, pattern := range asked {
		if pattern.MatchString(line) {
			return true
		}
	}

	return false
}

// mentions reports whether a command line names a file that has secrets because the script asked for it, and so may print
// it: cat, cmp, grep.
func (w *watch) mentions(line string) bool {
	for _, word := range strings.Fields(line) {
		if _, ok := w.allowed[path.Base(strings.Trim(word, "'"))]; ok && !strings.Contains(line, "talosmate ") {
			return true
		}
	}

	return false
}

// files looks into all that is below a directory, except what was given to the script and what it asked for.
func (w *watch) files(root string) ([]string, error) {
	var out []string

	f := w.finder()

	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a file of a program that ends
		}

		if err != nil {
			return err
		}

		if d.IsDir() && w.labs[file] {
			return fs.SkipDir
		}

		if !d.Type().IsRegular() {
			return nil
		}

		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}

		body, err := os.ReadFile(file)
		if err != nil || w.given[name] == sum(body) || w.isAllowed(name) {
			return err
		}

		for part, content := range unpacked(body) {
			if found := f.in(content); len(found) > 0 {
				out = append(out, fmt.Sprintf("%s%s has %s", name, part, strings.Join(found, ", ")))
			}
		}

		return nil
	})

	return out, err
}

func (w *watch) isAllowed(name string) bool {
	for pattern := range w.allowed {
		for at := name; at != "."; at = path.Dir(at) {
			if ok, _ := path.Match(pattern, at); ok {
				return true
			}
		}
	}

	return false
}

// unpacked is a file, and what is in it if it is a zip archive.
func unpacked(body []byte) map[string][]byte {
	out := map[string][]byte{"": body}

	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return out
	}

	for _, member := range archive.File {
		if r, err := member.Open(); err == nil {
			out["("+member.Name+")"], _ = io.ReadAll(r)
			_ = r.Close()
		}
	}

	return out
}

func sum(body []byte) string {
	s := sha256.Sum256(body)

	return string(s[:])
}

// keepGiven notes the files that a script brings.
func (w *watch) keepGiven(root string) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}

		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}

		name, err := filepath.Rel(root, file)
		w.given[name] = sum(body)

		return err
	})
}

// askedFor is asked-for WHY FILE...: the script asked for files with secrets, so they may have some. Their own secrets are
// looked for everywhere else.
func (w *watch) askedFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args[0]) < 10 {
		ts.Fatalf("usage: asked-for WHY FILE...")
	}

	for _, pattern := range args[1:] {
		w.allowed[pattern] = args[0]
	}
}

// learnAllowed takes the secrets of the files that the script asked for.
func (w *watch) learnAllowed(root string) {
	for pattern := range w.allowed {
		files, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, file := range files {
			if body, err := os.ReadFile(file); err == nil {
				w.learn(pattern, body)
			}
		}
	}
}

// sighted is a testing.T that sees the whole log of each script.
type sighted struct {
	*testing.T

	*watch
}

// Run implements testscript.T.
func (t sighted) Run(name string, do func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { do(sighted{t, newWatch()}) })
}

// Verbose implements testscript.T: all phases are kept, to be looked at.
func (t sighted) Verbose() bool { return true }

// Log implements testscript.T. It is called once for a script, at its end.
func (t sighted) Log(args ...any) {
	t.Helper()

	text := fmt.Sprint(args...)
	for _, found := range t.log(text) {
		t.Errorf("a secret was printed: %s", found)
	}

	if !testing.Verbose() {
		text = lastPhase(text)
	}

	t.T.Log(text)
}

// lastPhase is a script's log without the details of the phases before the last one.
func lastPhase(log string) string {
	lines := strings.SplitAfter(log, "\n")
	last := 0

	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			last = i
		}
	}

	var out strings.Builder

	for i, line := range lines {
		if i >= last || strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}

	return out.String()
}

func watchOf(ts *testscript.TestScript) *watch { return ts.Value(watchKey{}).(*watch) }

// guard looks for secrets in the files of a script when it ends.
func (t sighted) guard(env *testscript.Env) error {
	env.Values[watchKey{}] = t.watch
	env.Defer(func() {
		t.learnAllowed(env.WorkDir)

		found, err := t.files(env.WorkDir)
		if err != nil {
			t.Errorf("cannot look for secrets: %v", err)
		}

		for _, f := range found {
			t.Errorf("a secret was written: %s", f)
		}

		for _, f := range public(filepath.Join(env.WorkDir, "home"), t.given) {
			t.Errorf("others may read it: %s", f)
		}
	})

	return t.keepGiven(env.WorkDir)
}

// ours are the paths below a home directory that talosmate writes.
var ours = regexp.MustCompile(`talosmate|/\.(talos|kube)(/|$)`) //nolint:gochecknoglobals // a table

// public lists what is in a home directory that others may read, except what the script brought.
func public(home string, given map[string]string) []string {
	var out []string

	_ = filepath.WalkDir(home, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == home {
			return nil //nolint:nilerr // a file of a program that ends
		}

		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o077 == 0 || info.Mode().Type() == fs.ModeSymlink {
			return nil //nolint:nilerr // as above
		}

		name, _ := filepath.Rel(filepath.Dir(home), file)
		if !ours.MatchString(name) {
			return nil // of another program
		}

		for known := range given {
			if known == name || strings.HasPrefix(known, name+"/") {
				return nil
			}
		}

		out = append(out, fmt.Sprintf("%s %s", info.Mode(), name))

		return nil
	})

	return out
}

// TestSecretsAreFound plants secrets in each form: the watch that all scripts have must find them.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()

	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	der, err := x509.MarshalECPrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}

	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	edDER, err := x509.MarshalPKCS8PrivateKey(edwards)
	if err != nil {
		t.Fatal(err)
	}

	public, err := x509.MarshalPKIXPublicKey(pair.Public())
	if err != nil {
		t.Fatal(err)
	}

	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	edKey := pem.EncodeToMemory(&pem.Block{Type: "ED25519 PRIVATE KEY", Bytes: edDER})
	w := newWatch()
	w.learn("cp-1", []byte("machine:\n  token: abcdef.0123456789abcdef\n  ca: {crt: public-public-public, key: "+base64.StdEncoding.EncodeToString(key)+"}\n"+
		"  acceptedCAs: [{key: "+base64.StdEncoding.EncodeToString(edKey)+"}]\n"+
		"---\nkind: WireguardConfig\nprivateKey: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\npeers: [{publicKey: notasecretnotasecretnotasecret}]\n"))

	wireguard := make([]byte, 32)

	for i := range wireguard {
		wireguard[i] = byte(i)
	}

	for name, text := range map[string]string{
		"as it is":              "token abcdef.0123456789abcdef",
		"without its ID":        "0123456789abcdef",
		"base64":                base64.StdEncoding.EncodeToString([]byte("xabcdef.0123456789abcdef")),
		"PEM":                   string(key),
		"a line of PEM":         strings.Split(string(key), "\n")[1],
		"base64 of PEM":         base64.StdEncoding.EncodeToString(key),
		"DER":                   string(der),
		"hex of DER":            hex.EncodeToString(der),
		"an Ed25519 key":        string(edKey),
		"its base64":            base64.StdEncoding.EncodeToString(append([]byte("x"), edKey...)),
		"raw":                   string(wireguard),
		"hex":                   hex.EncodeToString(wireguard),
		"base64url in a value":  base64.URLEncoding.EncodeToString(append([]byte("xy"), wireguard...)),
		"base64 of base64":      base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(wireguard))),
		"among others, in JSON": `{"a":"b","c":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`,
	} {
		if len(w.finder().in([]byte("before "+text+" after"))) == 0 {
			t.Errorf("%s: not found", name)
		}
	}

	if found := w.finder().in([]byte(base64.StdEncoding.EncodeToString(public) + " public-public-public notasecretnotasecretnotasecret abcdef")); found != nil {
		t.Errorf("found in what is public: %s", found)
	}

	if found := w.log("# one\n> exec cat a\n[stdout]\nabcdef.0123456789abcdef\n> talosmate mc get --show-secrets\n[stdout]\nabcdef.0123456789abcdef"); len(found) != 1 ||
		strings.Contains(fmt.Sprint(found), "0123456789abcdef") {
		t.Errorf("in a log: %q", found)
	}
}

// recorded is a T that records what scripts report.
type recorded struct {
	*watch

	reports *[]string
}

// planted runs a script that leaks, with the watch that all scripts have.
func planted(t *testing.T, script string) string {
	t.Helper()

	file := filepath.Join(t.TempDir(), "planted.txtar")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}

	var out []string

	w := newWatch()
	w.learn("cp-1", []byte("machine: {token: abcdef.0123456789abcdef}"))

	testscript.RunT(recorded{w, &out}, testscript.Params{
		Files: []string{file},
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"asked-for": w.askedFor},
		Setup: func(env *testscript.Env) error {
			env.Defer(func() {
				found, err := w.files(env.WorkDir)
				out = append(append(out, found...), fmt.Sprint(err))
				out = append(out, public(filepath.Join(env.WorkDir, "home"), w.given)...)
			})

			return w.keepGiven(env.WorkDir)
		},
	})

	return strings.Join(out, "\n")
}

func (r recorded) Skip(...any)                           {}
func (r recorded) Fatal(args ...any)                     { panic(fmt.Sprint(args...)) }
func (r recorded) FailNow()                              { panic("failed") }
func (r recorded) Parallel()                             {}
func (r recorded) Verbose() bool                         { return true }
func (r recorded) Log(args ...any)                       { *r.reports = append(*r.reports, r.log(fmt.Sprint(args...))...) }
func (r recorded) Run(_ string, do func(t testscript.T)) { do(r) }

// TestPlantedSecrets runs scripts that print and write a secret.
func TestPlantedSecrets(t *testing.T) {
	t.Parallel()

	for script, want := range map[string][]string{
		"exec cat secret\n-- secret --\nabcdef.0123456789abcdef\n":                                          {`"exec cat secret" printed cp-1.machine.token`},
		"exec sh -c 'cat secret >&2'\n# another phase\nexec true\n-- secret --\n0123456789abcdef\n":         {`printed cp-1.machine.token (without its ID)`},
		"mkdir home/.talos\ncp secret home/.talos/journal\n-- secret --\nabcdef.0123456789abcdef\n":         {"home/.talos/journal has cp-1.machine.token", "home/.talos/journal"},
		"asked-for 'a copy is wanted' copy\ncp secret copy\n-- secret --\nabcdef.0123456789abcdef\n":        nil,
		"exec sh -c 'mkdir -m 700 home; umask 077; echo x >home/private'\nexec sh -c 'echo y >home/.talos'": {"-rw-r--r-- home/.talos"},
	} {
		got := planted(t, script)

		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%s\nno %q in\n%s", script, part, got)
			}
		}

		if want == nil && got != "<nil>" {
			t.Errorf("%s\nreports %s", script, got)
		}

		if strings.Contains(got, "0123456789abcdef") {
			t.Errorf("the report quotes the secret: %s", got)
		}
	}
}
