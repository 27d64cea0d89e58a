package machineconfig_test

import (
	"encoding"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/redact"
)

// shownFields are fields of machine configurations that look like secrets and are shown on purpose: each with the
// reason. A new field of Talos that looks like one must be hidden, or be added here.
func shownFields() map[string]string {
	const (
		certificate = "a certificate"
		public      = "a public key"
		number      = "a number, not a key"
		address     = "where manifests are, not what is in them; a password in a URL is hidden by its form"
	)

	return map[string]string{
		"cluster.acceptedCAs[].crt": certificate, "cluster.aggregatorCA.crt": certificate, "cluster.ca.crt": certificate, "cluster.etcd.ca.crt": certificate,
		"machine.acceptedCAs[].crt": certificate, "machine.ca.crt": certificate, "machine.registries.config.*.tls.clientIdentity.crt": certificate,
		"KubeAPIServerCAConfig.issuingCA.cert": certificate, "KubeAggregatorCAConfig.issuingCA.cert": certificate,
		"RegistryTLSConfig.clientIdentity.cert":                    certificate,
		"TrustedRootsConfig.certificates":                          certificate,
		"machine.network.interfaces[].wireguard.peers[].publicKey": public, "WireguardConfig.peers[].publicKey": public,
		"KubeServiceAccountConfig.accepted.publicKeys[]":  public,
		"machine.network.interfaces[].bond.adUserPortKey": number, "BondConfig.adUserPortKey": number,
		"cluster.extraManifests[]": address, "cluster.externalCloudProvider.manifests[]": address,
	}
}

// kinds lists the kinds of documents that machinery registers, from the schema that is published with it. The main
// document has none.
func kinds(t *testing.T) []string {
	t.Helper()

	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/siderolabs/talos/pkg/machinery").Output()
	if err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "schemas", "config.schema.json"))
	if err != nil {
		t.Fatal(err)
	}

	var schema struct {
		Defs map[string]struct {
			Properties struct {
				Kind struct {
					Enum []string `json:"enum"`
				} `json:"kind"`
			} `json:"properties"`
		} `json:"$defs"`
	}

	if err = json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}

	out := []string{""}
	for _, def := range schema.Defs {
		for _, kind := range def.Properties.Kind.Enum {
			if kind == "KubeSpanEndpoints" { // the schema's word for it
				kind = "KubeSpanEndpointsConfig"
			}

			out = append(out, kind)
		}
	}

	slices.Sort(out)

	return out
}

// sample makes documents with a text of its own in every field.
type sample struct {
	values map[*yaml.Node]string // The path of each text.
	seen   []reflect.Type
}

func (s *sample) node(t reflect.Type, path string) *yaml.Node {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}

	text := func() *yaml.Node {
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: fmt.Sprintf("sample-%d", len(s.values))}
		if strings.HasSuffix(path, "environment[]") {
			n.Value = "ACCESS=" + n.Value
		}

		s.values[n] = path

		return n
	}

	own := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())

	switch {
	case own || slices.Contains(s.seen, t):
		return text()
	case t.Kind() == reflect.Struct:
		s.seen = append(s.seen, t)
		defer func() { s.seen = s.seen[:len(s.seen)-1] }()

		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		s.fields(n, t, path)

		if len(n.Content) == 0 {
			return text()
		}

		return n
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{s.node(t.Elem(), path+"[]")}}
	case t.Kind() == reflect.Map:
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "sample"}

		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, s.node(t.Elem(), path+".*")}}
	case t.Kind() == reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
	default:
		return text()
	}
}

func (s *sample) fields(n *yaml.Node, t reflect.Type, path string) {
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")

		switch {
		case tag == "-" || (!f.IsExported() && !f.Anonymous):
		case strings.Contains(options, "inline") || (f.Anonymous && tag == ""):
			if f.Type.Kind() == reflect.Struct { // else it is of no type that is known
				s.fields(n, f.Type, path)
			}
		case tag == "apiVersion" || tag == "kind":
		default:
			if tag == "" {
				tag = strings.ToLower(f.Name)
			}

			where := strings.TrimPrefix(path+"."+tag, ".")
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: tag}, s.node(f.Type, where))
		}
	}
}

func typeOfKind(t *testing.T, kind string) reflect.Type {
	t.Helper()

	text := "machine: {}\n"
	if kind != "" {
		text = "apiVersion: v1alpha1\nkind: " + kind + "\n"
	}

	cfg, err := configloader.NewFromBytes([]byte(text), configloader.WithNoValidation())
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}

	return reflect.TypeOf(cfg.Documents()[0])
}

// Every text field of every document of machinery whose name looks like that of a secret is hidden, or is shown for a
// reason that is recorded.
func TestFieldsThatLookLikeSecretsAreDecided(t *testing.T) {
	t.Parallel()

	looks := regexp.MustCompile(`(?i)(?:key|token|secret|pass|psk|cred|auth|private|content|manifest|header|variable|environment|\benv\b|certificate|crt|cert|identity|userdata)s?(?:\[\])?(?:\.\*)?$`)
	shown, met, all := shownFields(), map[string]bool{}, kinds(t)

	if len(all) < 80 {
		t.Fatalf("only %d kinds of documents", len(all))
	}

	for _, kind := range all {
		s := sample{values: map[*yaml.Node]string{}}
		doc := s.node(typeOfKind(t, kind), "")

		if kind != "" {
			doc.Content = append([]*yaml.Node{
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "apiVersion"},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "v1alpha1"},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: "kind"},
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: kind},
			}, doc.Content...)
		}

		found := redact.YAML(doc)

		for n, path := range s.values {
			field := strings.TrimPrefix(kind+"."+path, ".")

			hidden := found[n] != "" && !strings.Contains(found[n], "sample-")
			if decided := shown[field] != ""; hidden == decided && (decided || looks.MatchString(path)) {
				t.Errorf("%s: hidden %t, recorded as shown %t", field, hidden, decided)
			}

			met[field] = true
		}
	}

	for field := range shown {
		if !met[field] {
			t.Errorf("%s is recorded as shown, and no document has it", field)
		}
	}
}

// Contents of files and manifests and environment variables, in the places where people write secrets.
func TestSecretsInOddPlaces(t *testing.T) {
	t.Parallel()

	text, err := os.ReadFile(filepath.Join("testdata", "odd-places.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	documents := strings.Split(string(text), "---\n")
	if len(documents) < 6 {
		t.Fatalf("only %d documents", len(documents))
	}

	for _, document := range documents {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(document), &doc); err != nil {
			t.Fatal(err)
		}

		redact.Apply(&doc)

		out, err := yaml.Marshal(&doc)
		if err != nil {
			t.Fatal(err)
		}

		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "SECRET-") || strings.Contains(line, "U0VDUkVUL") {
				t.Errorf("shown: %s", line)
			}
		}
	}
}
