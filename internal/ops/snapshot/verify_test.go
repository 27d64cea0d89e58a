package snapshot_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/talos"
)

// put is one revision: a value, or a deletion.
type put struct {
	key   string
	value []byte
	lease int64
	gone  bool
}

// write makes a database as etcd writes it; hashed appends the hash of a snapshot.
func write(tb testing.TB, hashed bool, puts ...put) string {
	tb.Helper()

	path := filepath.Join(tb.TempDir(), "db")

	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: hashed, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}

	err = db.Update(func(tx *bolt.Tx) error {
		buckets := map[string]*bolt.Bucket{}

		for _, name := range []string{"key", "meta", "lease", "members"} {
			if buckets[name], err = tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}

		for i, p := range puts {
			k := append(binary.BigEndian.AppendUint64(nil, uint64(i+2)), '_', 0, 0, 0, 0, 0, 0, 0, 0)
			v := bytesField(nil, 1, []byte(p.key))

			if p.gone {
				k = append(k, 't')
			} else {
				v = bytesField(v, 5, p.value)
				v = protowire.AppendVarint(protowire.AppendTag(v, 6, protowire.VarintType), uint64(p.lease))
			}

			if err := buckets["key"].Put(k, v); err != nil {
				return err
			}
		}

		return errors.Join(buckets["meta"].Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, 900)),
			buckets["lease"].Put([]byte("12345678"), []byte{8, 1}), buckets["members"].Put([]byte("8e9e05c52164694d"), []byte(`{"id":1,"name":"cp-1","peerURLs":["https://10.0.0.1:2380"]}`)))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		tb.Fatal(err)
	}

	if hashed {
		content, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}

		sum := sha256.Sum256(content)
		rewrite(tb, path, append(content, sum[:]...))
	}

	return path
}

func rewrite(tb testing.TB, path string, content []byte) {
	tb.Helper()

	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func bytesField(to []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
}

// object is what kube-apiserver stores of an object.
func object(version, kind string, created time.Time) []byte {
	at := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(created.Unix()))
	meta := bytesField(bytesField(nil, 1, []byte("name")), 8, at)
	head := bytesField(bytesField(nil, 1, []byte(version)), 2, []byte(kind))

	return append([]byte("k8s\x00"), bytesField(bytesField(nil, 1, head), 2, bytesField(bytesField(nil, 1, meta), 2, []byte(value)))...)
}

const value = "the value of a secret"

// seal encrypts as kube-apiserver does.
func seal(tb testing.TB, provider, name string, key, plain []byte, path string) []byte {
	tb.Helper()

	prefix := []byte("k8s:enc:" + provider + ":v1:" + name + ":")
	nonce := bytes.Repeat([]byte{7}, 24)

	if provider == "secretbox" {
		return secretbox.Seal(append(prefix, nonce...), plain, (*[24]byte)(nonce), (*[32]byte)(key))
	}

	block, err := aes.NewCipher(key)
	if err != nil {
		tb.Fatal(err)
	}

	if provider == "aesgcm" {
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			tb.Fatal(err)
		}

		return gcm.Seal(append(prefix, nonce[:12]...), nonce[:12], plain, []byte(path))
	}

	n := aes.BlockSize - len(plain)%aes.BlockSize
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, nonce[:16]).CryptBlocks(out, out)

	return append(append(prefix, nonce[:16]...), out...)
}

var errMarker = errors.New("marker")

func at(day int) time.Time { return time.Date(2026, 11, day, 12, 0, 0, 0, time.UTC) }

func keyBytes(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

// config is a control plane's configuration of v1alpha1 with these keys of Talos.
func config(tb testing.TB, secretboxKey, aescbcKey []byte) []byte {
	tb.Helper()

	text := "version: v1alpha1\nmachine: {type: controlplane}\ncluster:\n  controlPlane: {endpoint: https://10.0.0.1:6443}\n"

	for name, key := range map[string][]byte{"secretbox": secretboxKey, "aescbc": aescbcKey} {
		if key != nil {
			text += "  " + name + "EncryptionSecret: " + base64.StdEncoding.EncodeToString(key) + "\n"
		}
	}

	return []byte(text)
}

// documents is an encryption configuration in the form of Talos 1.14.
func documents(resources string) []byte {
	return []byte("apiVersion: v1alpha1\nkind: KubeEtcdEncryptionConfig\nconfig:\n  resources:\n" + resources)
}

func cluster(tb testing.TB) []put {
	tb.Helper()

	secret := object("v1", "Secret", at(20))
	long := strings.Repeat("n", 300)

	return []put{
		{key: "/registry/namespaces/default", value: object("v1", "Namespace", at(1))},
		{key: "/registry/namespaces/empty", value: object("v1", "Namespace", at(1))},
		{key: "/registry/secrets/default/boxed", value: seal(tb, "secretbox", "key2", keyBytes('s'), secret, "")},
		{key: "/registry/secrets/default/cbc", value: seal(tb, "aescbc", "key1", keyBytes('c'), secret, "")},
		{key: "/registry/secrets/default/plain", value: secret},
		{key: "/registry/pods/default/a", value: object("v1", "Pod", at(2))},
		{key: "/registry/pods/default/a", value: object("v1", "Pod", at(21))},
		{key: "/registry/pods/default/b", value: object("v1", "Pod", at(25))},
		{key: "/registry/pods/default/b", gone: true},
		{key: "/registry/services/specs/default/s", value: object("v1", "Service", at(2))},
		{key: "/registry/minions/cp-1", value: object("v1", "Node", at(2))},
		{key: "/registry/cilium.io/ciliumnodes/cp-1", value: []byte(`{"apiVersion":"cilium.io/v2","kind":"CiliumNode","metadata":{"creationTimestamp":"2026-11-03T00:00:00Z"}}`)},
		{key: "/registry/events/other/e" + long, value: object("events.k8s.io/v1", "Event", at(22)), lease: 7},
		{key: "/registry/masterleases/10.0.0.1", value: object("v1", "Endpoints", at(26)), lease: 8},
		{key: "compact_rev_key", value: []byte("1")},
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()

	keys, err := snapshot.KeysOf(config(t, keyBytes('s'), keyBytes('c')))
	if err != nil {
		t.Fatal(err)
	}

	got, err := snapshot.Verify(t.Context(), write(t, true, cluster(t)...), keys, "cp.yaml")
	if err != nil || !got.Restorable || got.HashState != snapshot.HashVerified {
		t.Fatalf("%+v, %v", got, err)
	}

	c := got.Contents
	kinds := map[string]int{}

	for _, k := range c.Kinds {
		kinds[k.Resource+" "+k.APIVersion+" "+k.Kind] = k.Objects
	}

	want := map[string]int{
		"secrets v1 Secret": 3, "pods v1 Pod": 1, "namespaces v1 Namespace": 2, "services/specs v1 Service": 1, "minions v1 Node": 1,
		"cilium.io/ciliumnodes cilium.io/v2 CiliumNode": 1, "events events.k8s.io/v1 Event": 1,
	}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || c.Objects != 10 || c.OtherKeys != 2 || c.Leases != 1 || c.Leased != 2 {
		t.Errorf("%v\n%+v", kinds, c)
	}

	if fmt.Sprint(c.Namespaces) != "[{default 5} {empty 0} {other 1}]" || !c.Newest.Equal(at(22)) || !strings.HasPrefix(c.NewestOf, "events/other/e") {
		t.Errorf("%v, newest %v of %s", c.Namespaces, c.Newest, c.NewestOf)
	}

	if fmt.Sprint(got.Encryption) != "[{secrets aescbc key1 decrypted 1 []} {secrets identity  plain 1 []} {secrets secretbox key2 decrypted 1 []}]" {
		t.Errorf("encryption %v", got.Encryption)
	}

	if fmt.Sprint(got.KeyNames, got.Members) != "[secretbox:key2 aescbc:key1] [{8e9e05c52164694d cp-1 10.0.0.1}]" {
		t.Errorf("%v, %v", got.KeyNames, got.Members)
	}
}

func TestVerifyKeys(t *testing.T) {
	t.Parallel()

	gcm := "  - resources: [secrets]\n    providers:\n    - aesgcm: {keys: [{name: g, secret: " + base64.StdEncoding.EncodeToString(keyBytes('g')) + "}]}\n"
	kms := "  - resources: [secrets]\n    providers:\n    - kms: {apiVersion: v2, name: vault, endpoint: unix:///kms.sock}\n"
	secret, path := object("v1", "Secret", at(20)), "/registry/secrets/default/x"
	sealed := func(provider, name string, c byte) []byte { return seal(t, provider, name, keyBytes(c), secret, path) }

	for name, c := range map[string]struct {
		config  []byte
		value   []byte
		status  string
		problem string
	}{
		"no keys given":             {nil, sealed("secretbox", "key2", 's'), "unchecked", ""},
		"secretbox":                 {config(t, keyBytes('s'), nil), sealed("secretbox", "key2", 's'), "decrypted", ""},
		"another key of secretbox":  {config(t, keyBytes('x'), nil), sealed("secretbox", "key2", 's'), "wrong-key", "key2 of secretbox"},
		"aescbc":                    {config(t, nil, keyBytes('c')), sealed("aescbc", "key1", 'c'), "decrypted", ""},
		"another key of aescbc":     {config(t, nil, keyBytes('x')), sealed("aescbc", "key1", 'c'), "wrong-key", "key1 of aescbc"},
		"a key of another name":     {config(t, keyBytes('s'), nil), sealed("secretbox", "key9", 's'), "no-key", "key9 of secretbox"},
		"no key of this provider":   {config(t, keyBytes('s'), nil), sealed("aescbc", "key1", 'c'), "no-key", "key1 of aescbc"},
		"aesgcm":                    {documents(gcm + "    - identity: {}\n"), sealed("aesgcm", "g", 'g'), "decrypted", ""},
		"aesgcm of another object":  {documents(gcm), seal(t, "aesgcm", "g", keyBytes('g'), secret, "/registry/secrets/default/y"), "wrong-key", "key g"},
		"a key service":             {documents(kms), []byte("k8s:enc:kms:v2:vault:xyz"), "unchecked", ""},
		"plain, with identity":      {documents(gcm + "    - identity: {}\n"), secret, "plain", ""},
		"plain, without identity":   {documents(gcm), secret, "plain-refused", "read only what is"},
		"nothing behind the prefix": {config(t, keyBytes('s'), keyBytes('c')), []byte("k8s:enc:aescbc:v1:key1:"), "wrong-key", "key1"},
		"an odd length":             {config(t, keyBytes('s'), keyBytes('c')), []byte("k8s:enc:aescbc:v1:key1:" + strings.Repeat("x", 33)), "wrong-key", "key1"},
		"a prefix without an end":   {config(t, keyBytes('s'), keyBytes('c')), []byte("k8s:enc:aescbc"), "no-key", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var keys *snapshot.Keys

			if c.config != nil {
				var err error
				if keys, err = snapshot.KeysOf(c.config); err != nil {
					t.Fatal(err)
				}
			}

			got, err := snapshot.Verify(t.Context(), write(t, true, put{key: path, value: c.value}), keys, "")
			if len(got.Encryption) != 1 || got.Encryption[0].Status != c.status {
				t.Fatalf("%+v, %v", got, err)
			}

			if (c.problem == "") != (err == nil) || (err != nil && (errs.ExitCode(err) != errs.Negative || !strings.Contains(err.Error(), c.problem) ||
				got.Problems[0].Code != c.status || got.Encryption[0].Examples[0] != "default/x")) {
				t.Errorf("%v\n%+v", err, got)
			}

			shown, _ := json.Marshal(got)
			for _, secret := range []string{value, base64.StdEncoding.EncodeToString(keyBytes('s')), base64.StdEncoding.EncodeToString(keyBytes('g')), "xyz"} {
				if bytes.Contains(shown, []byte(secret)) {
					t.Errorf("it shows %q", secret)
				}
			}
		})
	}
}

// A snapshot of more keys than are listed hides no object that is not decrypted.
func TestVerifyManyKeys(t *testing.T) {
	t.Parallel()

	const key = "/registry/secrets/ns/name"

	var puts []put
	for i := range 1000 {
		puts = append(puts, put{key: fmt.Sprint(key, i), value: []byte(fmt.Sprintf("k8s:enc:kms:v2:key-%d:sealed", i))})
	}

	puts = append(puts,
		put{key: key + "-secret", value: seal(t, "aescbc", "key1", keyBytes('x'), object("v1", "Secret", at(1)), "")},
		put{key: key + "-plain", value: object("v1", "Secret", at(1))})

	keys, err := snapshot.KeysOf(config(t, keyBytes('s'), keyBytes('c')))
	if err != nil {
		t.Fatal(err)
	}

	got, err := snapshot.Verify(t.Context(), write(t, true, puts...), keys, "file")
	if errs.ExitCode(err) != errs.Negative || got.Restorable || got.Unchecked() != 1000 || !got.Contents.Incomplete {
		t.Errorf("restorable %t, %d unchecked: %v", got.Restorable, got.Unchecked(), err)
	}
}

func TestKeysOfRefuses(t *testing.T) {
	t.Parallel()

	for name, text := range map[string]string{
		"not yaml":     "\x00",
		"a short key":  string(documents("  - resources: [secrets]\n    providers:\n    - secretbox: {keys: [{name: k, secret: c2hvcnQ=}]}\n")),
		"not base64":   string(documents("  - resources: [secrets]\n    providers:\n    - aescbc: {keys: [{name: k, secret: '!topsecret'}]}\n")),
		"a worker's":   "version: v1alpha1\nmachine: {type: worker}\ncluster: {}\n",
		"another kind": "apiVersion: v1alpha1\nkind: Nothing\n",
	} {
		if _, err := snapshot.KeysOf([]byte(text)); errs.ExitCode(err) != errs.Usage || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyFile(t *testing.T) {
	t.Parallel()

	whole, err := os.ReadFile(write(t, true, cluster(t)...))
	if err != nil {
		t.Fatal(err)
	}

	plain := whole[:len(whole)-32]
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-100] ^= 1

	for name, c := range map[string]struct {
		content []byte
		hash    string
		problem string
	}{
		"a copy":            {plain, "none", ""},
		"a wrong hash":      {flipped, "wrong", "wrong-hash"},
		"cut in a page":     {whole[:3*4096+17], "unknown", "truncated"},
		"cut between pages": {plain[:3*4096], "unknown", "truncated"},
		"one page":          {plain[:4096], "unknown", "truncated"},
		"empty":             {nil, "unknown", "damaged"},
		"text":              {[]byte("not a database\n"), "unknown", "damaged"},
	} {
		path := filepath.Join(t.TempDir(), "db")
		rewrite(t, path, c.content)

		got, err := snapshot.Verify(t.Context(), path, nil, "")
		if got.HashState != c.hash || (err == nil) != (c.problem == "") || (err != nil && (errs.ExitCode(err) != errs.Negative || got.Problems[0].Code != c.problem)) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	got, err := snapshot.Verify(t.Context(), write(t, true, put{key: "precious", value: []byte("x")}), nil, "")
	if errs.ExitCode(err) != errs.Negative || got.Problems[0].Code != snapshot.NoKubernetesKeys {
		t.Errorf("no Kubernetes: %+v, %v", got, err)
	}

	if _, err := snapshot.Verify(t.Context(), filepath.Join(t.TempDir(), "none"), nil, ""); errs.ExitCode(err) != errs.Usage {
		t.Errorf("no file: %v", err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errMarker)

	if _, err := snapshot.Verify(ctx, write(t, true, cluster(t)...), nil, ""); !errors.Is(err, errMarker) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestVerifyCorrupted damages pages: each file is read to an end, or has a problem. Nothing is written to it.
func TestVerifyCorrupted(t *testing.T) {
	t.Parallel()

	puts := cluster(t)
	for i := range 3000 {
		puts = append(puts, put{key: fmt.Sprintf("/registry/configmaps/default/c%d", i), value: object("v1", "ConfigMap", at(3))})
	}

	for _, hashed := range []bool{false, true} { // with and without a list of free pages
		whole, err := os.ReadFile(write(t, hashed, puts...))
		if err != nil {
			t.Fatal(err)
		}

		whole = whole[:len(whole)/4096*4096]
		random := rand.New(rand.NewPCG(17, 1)) //nolint:gosec // G404: the same in each run
		found, path := 0, filepath.Join(t.TempDir(), "db")

		for range 150 {
			content := bytes.Clone(whole)
			page := 2 + random.IntN(len(content)/4096-2)

			for range 1 + random.IntN(8) { // its header and its first entries, where references are
				content[page*4096+random.IntN(200)] = byte(random.Uint32())
			}

			rewrite(t, path, content)

			if _, err = snapshot.Verify(t.Context(), path, nil, ""); err != nil {
				found++

				if errs.ExitCode(err) != errs.Negative {
					t.Fatal(err)
				}
			}

			if after, _ := os.ReadFile(path); !bytes.Equal(after, content) {
				t.Fatal("the file was written to")
			}
		}

		if found < 75 {
			t.Errorf("%d of 150 damaged files were found", found)
		}
	}
}

// A page that refers to one above it never ends for a reader that trusts it.
func TestVerifyCircle(t *testing.T) {
	t.Parallel()

	puts := cluster(t)
	for i := range 3000 {
		puts = append(puts, put{key: fmt.Sprintf("/registry/configmaps/default/c%d", i), value: object("v1", "ConfigMap", at(3))})
	}

	path := write(t, true, puts...)

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	content, circles := content[:len(content)-32], 0

	for page := 2 * 4096; page < len(content); page += 4096 {
		if binary.LittleEndian.Uint16(content[page+8:]) == 1 { // a branch: its first child is itself
			binary.LittleEndian.PutUint64(content[page+16+8:], uint64(page/4096))

			circles++
		}
	}

	rewrite(t, path, content)

	if got, err := snapshot.Verify(t.Context(), path, nil, ""); circles == 0 || errs.ExitCode(err) != errs.Negative || !strings.Contains(err.Error(), "used twice") {
		t.Errorf("%d circles: %+v, %v", circles, got, err)
	}
}

// TestVerifyMemory reads 100,000 objects. What stays is an index of their keys, far below the size of the file.
func TestVerifyMemory(t *testing.T) {
	puts := make([]put, 0, 100_000)
	secret := append(object("v1", "Secret", at(20)), make([]byte, 600)...)

	for i := range cap(puts) {
		key := fmt.Sprintf("/registry/secrets/namespace-%d/secret-%d", i%200, i)
		puts = append(puts, put{key: key, value: seal(t, "secretbox", "key2", keyBytes('s'), secret, key)})
	}

	path := write(t, true, puts...)

	keys, err := snapshot.KeysOf(config(t, keyBytes('s'), nil))
	if err != nil {
		t.Fatal(err)
	}

	debug.FreeOSMemory() // what building the file took

	before := held()
	got, err := snapshot.Verify(t.Context(), path, keys, "")
	used := held() - before

	if err != nil || got.Contents.Objects != 100_000 || got.Encryption[0].Objects != 100_000 || len(got.Contents.Namespaces) != 200 {
		t.Fatalf("%v: %+v", err, got.Encryption)
	}

	const most = 32 << 20

	if t.Logf("%d bytes of memory for a file of %d", used, got.SizeBytes); used > most {
		t.Error("that is too much")
	}
}

// held is the memory of the heap that the process has of the system.
func held() int64 {
	var m runtime.MemStats

	runtime.ReadMemStats(&m)

	return int64(m.HeapSys) - int64(m.HeapReleased)
}

func TestCompare(t *testing.T) {
	t.Parallel()

	r, err := snapshot.Verify(t.Context(), write(t, true, cluster(t)...), nil, "")
	if err != nil {
		t.Fatal(err)
	}

	status := talos.EtcdStatus{RaftAppliedIndex: 1000}
	view := func(id string) etcd.View {
		return etcd.View{Answers: []etcd.Answer{{Status: &status, Members: []talos.EtcdMember{{ID: id}}}, {}}}
	}

	for name, c := range map[string]struct {
		view     etcd.View
		revision int64
		want     string
	}{
		"behind":          {view("8e9e05c52164694d"), r.Revision + 50, "{yes 900 1000 100 66 50 86400}"},
		"another cluster": {view("1"), r.Revision + 50, "{no 900 1000 0 66 50 86400}"},
		"all is down":     {etcd.View{Answers: []etcd.Answer{{}}}, 0, "{unknown 900 0 0 0 0 86400}"},
	} {
		if r.Compare(c.view, c.revision, at(23)); fmt.Sprint(*r.Live) != c.want {
			t.Errorf("%s: %v, want %s", name, *r.Live, c.want)
		}
	}
}

// FuzzVerify overwrites a part of a database. The reader must end, without a panic that kills the process.
func FuzzVerify(f *testing.F) {
	whole, err := os.ReadFile(write(f, false, cluster(f)...))
	if err != nil {
		f.Fatal(err)
	}

	f.Add(uint32(0), []byte{0})
	f.Add(uint32(4096*3), []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 255, 255})
	f.Add(uint32(8), bytes.Repeat([]byte{255}, 80))

	f.Fuzz(func(t *testing.T, offset uint32, patch []byte) {
		content := bytes.Clone(whole)
		copy(content[int(offset)%len(content):], patch)

		path := filepath.Join(t.TempDir(), "db")
		rewrite(t, path, content)

		if _, err := snapshot.Verify(t.Context(), path, nil, ""); err != nil && errs.ExitCode(err) != errs.Negative {
			t.Error(err)
		}
	})
}
