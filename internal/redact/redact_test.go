package redact_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/redact"
)

// odd is a configuration with secrets in unusual places.
const odd = `machine:
  files:
    - path: /var/etc/registry.conf
      content: |
        password = "SECRET-machine-file"
  pods:
    - apiVersion: v1
      kind: Pod
      spec:
        containers:
          - name: agent
            image: registry.example/agent:v1
            command: [agent, --token=SECRET-argument, --verbose]
            env: [{name: DB_PASSWORD, value: SECRET-env-value}, {name: DB_DSN, value: SECRET-dsn}, {name: TZ, value: Europe/Berlin}]
    - apiVersion: v1
      kind: Secret
      stringData: {anything: SECRET-inline}
  kubelet:
    credentialProviderConfig:
      providers:
        - name: example
          env: [{name: REGISTRY_TOKEN, value: SECRET-provider-env}]
  logging:
    destinations: [{endpoint: "tcp://u:SECRET-userinfo@10.0.0.1:1"}]
  install:
    extraKernelArgs: ["talos.config=https://u:SECRET-kernel@host/x", "my.auth=SECRET-karg"]
  registries:
    config: {"https://u:S3CR3T-key@host": {auth: {username: someone, password: SECRET-password}}}
  tokenn: SECRET-unknown-key
  token: &t SECRET-anchored
cluster:
  secret: *t
  clustersecrets: [SECRET-list-one, SECRET-list-two]
  inlineManifests:
    - name: ca
      contents: |
        kind: Secret
        data: {ca.key: U0VDUkVULWlubGluZQ==}
  extraManifestHeaders:
    Authorization: Bearer SECRET-header
    X-Any: SECRET-other-header
---
kind: ExtensionServiceConfig
configFiles:
  - content: MONITOR ups@host 1 remote SECRET-config-file slave
    mountPath: /usr/local/etc/nut/upsmon.conf
environment: [ANYTHING=SECRET-env-line, TS_ROUTES=10.0.0.0/8]
---
kind: EnvironmentConfig
variables: {ANYTHING: SECRET-variable, HTTP_PROXY: "http://u:SECRET-proxy@proxy:3128"}  # password: SECRET-comment
`

func parse(t *testing.T, text string) []*yaml.Node {
	t.Helper()

	all, err := foreign.Documents([]byte(text))
	if err != nil {
		t.Fatal(err)
	}

	return all
}

func TestUnusualPlaces(t *testing.T) {
	t.Parallel()

	for _, doc := range parse(t, odd) {
		var v any
		if err := foreign.Decode(doc, &v); err != nil {
			t.Fatal(err)
		}

		raw, err := json.Marshal(redact.Plain(v))
		if err != nil {
			t.Fatal(err)
		}

		redact.Apply(doc)

		text, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}

		for _, out := range []string{string(raw), string(text)} {
			if strings.Contains(out, "SECRET") || strings.Contains(out, "S3CR3T") || strings.Contains(out, "U0VDUkVU") {
				t.Errorf("shows a secret:\n%s", out)
			}
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()

	docs := parse(t, odd)
	shown := ""

	for _, doc := range docs {
		redact.Apply(doc)

		text, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}

		shown += string(text)
	}

	for _, kept := range []string{
		"/var/etc/registry.conf", "image: registry.example/agent:v1", "--verbose", "name: DB_PASSWORD", "Europe/Berlin", "@10.0.0.1:1", "username: someone",
		"TS_ROUTES=10.0.0.0/8", "@proxy:3128", "mountPath: /usr/local/etc/nut/upsmon.conf", "bytes, sha256 ", "name: ca",
	} {
		if !strings.Contains(shown, kept) {
			t.Errorf("hides %q", kept)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()

	for text, want := range map[string]string{
		"dial https://u:SECRET-x@host/y":                                                   "dial https://[redacted]@host/y",
		"GET /?jointoken=SECRET-x&a=1":                                                     "GET /?jointoken=[redacted]&a=1",
		"Authorization: Bearer SECRET-header":                                              "Authorization: Bearer [redacted]",
		`{"password": "SECRET-x", "user": "me"}`:                                           `{"password": [redacted], "user": "me"}`,
		"cannot read the secrets of x: permission denied":                                  "cannot read the secrets of x: permission denied",
		"cannot pull the token: not found":                                                 "cannot pull the token: not found",
		"use basic authentication":                                                         "use basic authentication",
		"--tls-private-key-file=/etc/key.pem":                                              "--tls-private-key-file=/etc/key.pem",
		"--enable-bootstrap-token-auth=true":                                               "--enable-bootstrap-token-auth=true",
		base64.StdEncoding.EncodeToString([]byte("machine:\n  token: SECRET-in-base64\n")): "[redacted]",
	} {
		if got := redact.Text(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestMessageHidesWhatItQuotes(t *testing.T) {
	t.Parallel()

	doc := parse(t, "machine:\n  token: SECRET-of-the-file\n")[0]

	for message, want := range map[string]string{
		"unknown keys found during decoding:\ncluster:\n    tokenn: SECRET-unknown\n    more:\n        - SECRET-list\n": "unknown keys cluster.tokenn, cluster.more",
		"line 3: cannot construct !!str `SECRET-...` into int":                                                          "line 3: cannot construct !!str into int",
		`bad value "SECRET-of-the-file" here`:                                                                           `bad value "[redacted]" here`,
	} {
		if got := redact.Message(message, doc); got != want {
			t.Errorf("%q became %q, want %q", message, got, want)
		}
	}
}

// FuzzPlantedSecret plants a secret in places that hold one, in the fuzzer's text, and searches the output for it.
func FuzzPlantedSecret(f *testing.F) {
	f.Add("name", "value", "word", uint8(0))
	f.Add("a: b", "x\ny", "|-", uint8(3))
	f.Add("env", "TOKEN=x", "auth", uint8(7))
	f.Add("http://u:p@h", "[redacted]", "key", uint8(11))

	places := []string{
		`{"token%[1]s": %[3]q, "%[2]s": 1}`,
		`{"%[2]s": {"password": %[3]q}}`,
		`{"env": [{"name": %[4]q, "value": %[3]q}]}`,
		`{"files": [{"path": %[4]q, "content": %[3]q}]}`,
		`{"kind": "Secret", "name": %[4]q, "data": {"k%[1]s": %[3]q}}`,
		`{"extraManifestHeaders": {"k%[1]s": %[3]q}}`,
		`{"environment": [%[5]q]}`,
		`{"inlineManifests": [{"contents": %[3]q, "name": %[4]q}]}`,
		`{"secrets": [[%[3]q], {"a": %[3]q}], "b": %[4]q}`,
		`{"x": "https://user:%[6]s@host/path", "y": %[4]q}`,
		`{"x": {"crt": "c", "key": %[3]q}, "y": %[4]q}`,
		`{"variables": {"V%[1]s": %[3]q}}`,
	}

	f.Fuzz(func(t *testing.T, key, other, around string, at uint8) {
		const secret = "SECRET-4f1c9a7e"

		clean := func(s string) string {
			return strings.Map(func(r rune) rune {
				if strings.ContainsRune("\"\\", r) || r < ' ' || r > '~' {
					return -1
				}

				return r
			}, s)
		}
		quote := func(s string) string { raw, _ := json.Marshal(s); return string(raw[1 : len(raw)-1]) }

		key, around = clean(key), clean(around)
		// What begins like a path is shown on purpose.
		if strings.HasPrefix(around, "/") || strings.Contains(key+other+around, "4f1c") || len(key)+len(other)+len(around) > 10_000 {
			return
		}

		template := strings.NewReplacer("%[1]s", key, "%[2]s", key, "%[3]q", `"`+quote(around+secret+around)+`"`, "%[4]q", `"`+quote(other)+`"`,
			"%[5]q", `"`+quote("V="+around+secret)+`"`, "%[6]s", secret).Replace(places[int(at)%len(places)])

		var v any
		if json.Unmarshal([]byte(template), &v) != nil {
			return
		}

		raw, err := json.Marshal(redact.Plain(v))
		if err != nil {
			t.Fatal(err)
		}

		docs, err := foreign.Documents([]byte(template))
		if err != nil {
			return
		}

		shown := string(raw)

		for _, doc := range docs {
			// An error quotes a whole value of the document.
			planted := around + secret + around
			if strings.Contains(template, `"`+quote(planted)+`"`) && len(strings.TrimSpace(planted)) == len(planted) {
				shown += redact.Message(fmt.Sprintf("cannot use %q", planted), doc)
			}

			redact.Apply(doc)

			text, err := yaml.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}

			shown += string(text)
		}

		if strings.Contains(shown, secret) {
			t.Fatalf("%s\nshows the secret:\n%s", template, shown)
		}
	})
}
