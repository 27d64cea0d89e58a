// Package redact finds secrets and replaces them. It is the one list of what is secret. It uses the names of fields and
// the form of values rather than the types of documents, so that it works for newer Talos versions and other programs
// too. When it is not sure, it hides.
package redact

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
)

// Hidden replaces a secret.
const Hidden = "[redacted]"

// secretWords are parts of the names of fields, flags and variables whose values are secret.
const secretWords = `token|secret|passw|passphrase|pwd|psk|credential|bearer|keydata|(?:private|preshared|auth|api|access|encryption|signing|encoded)[_-]?key`

// YAML finds the secrets of a document: the scalars, keys included, that are or contain one, and their replacements.
// Aliases are followed, so the document must be within the bounds of package foreign.
func YAML(doc *yaml.Node) map[*yaml.Node]string {
	s := newSearch()
	s.walk(doc, place{})

	return s.found
}

// Apply replaces the secrets of a document, also in its comments.
func Apply(doc *yaml.Node) {
	for n, shown := range YAML(doc) {
		n.Value, n.Tag, n.Style = shown, "!!str", 0
	}

	f := newForms()

	var comments func(*yaml.Node)

	comments = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = f.text(n.HeadComment), f.text(n.LineComment), f.text(n.FootComment)

		for _, c := range n.Content {
			comments(c)
		}
	}

	comments(doc)
}

// Text hides the secrets in a text that is not a document: a message, an argument, a line of a diff.
func Text(text string) string { return newForms().text(text) }

// KernelArgs hides the secrets in kernel arguments.
func KernelArgs(text string) string {
	f := newForms()

	return f.words(f.text(text))
}

// Message hides, in the text of an error, quoted YAML and the secrets of documents.
func Message(text string, documents ...*yaml.Node) string {
	return Values(unknownKeys(foreign.Unquoted(text)), documents...)
}

// unknownKeys reduces a loader's tree of unknown keys, which contains their values, to the keys.
func unknownKeys(text string) string {
	const marker = "unknown keys found during decoding:"

	head, tree, found := strings.Cut(text, marker)
	if !found {
		return text
	}

	doc, err := foreign.Document([]byte(tree))
	if err != nil || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return head + "unknown keys"
	}

	var (
		paths []string
		list  func(*yaml.Node, string)
	)

	list = func(n *yaml.Node, path string) {
		switch {
		case n.Kind == yaml.MappingNode && len(n.Content) > 0:
			for i := 0; i+1 < len(n.Content); i += 2 {
				list(resolve(n.Content[i+1]), strings.TrimPrefix(path+"."+n.Content[i].Value, "."))
			}
		case n.Kind == yaml.SequenceNode && len(n.Content) > 0 && resolve(n.Content[0]).Kind == yaml.MappingNode:
			for i, c := range n.Content {
				list(resolve(c), fmt.Sprintf("%s.%d", path, i))
			}
		default:
			paths = append(paths, path)
		}
	}

	list(doc.Content[0], "")

	return head + "unknown keys " + strings.Join(paths, ", ")
}

// Values hides in a text the secrets of a document that the text may quote.
func Values(text string, documents ...*yaml.Node) string {
	return Text(known(6, documents).Text(text))
}

// Known are secrets known by their value, wherever they stand.
type Known struct{ hide *strings.Replacer }

// KnownOf collects the secrets of documents. Of texts that are hidden as a whole, such as files, it takes the lines that
// are long enough to be distinguished from usual ones.
func KnownOf(documents ...*yaml.Node) Known { return known(16, documents) }

// Text hides the known secrets. Others stay: see Text and Plain for those.
func (k Known) Text(text string) string { return k.hide.Replace(text) }

// known takes lines of texts with at least this number of bytes, and other values with at least six.
func known(line int, documents []*yaml.Node) Known {
	var all []string

	for _, doc := range documents {
		for n, shown := range YAML(doc) {
			least := 6
			if strings.Contains(strings.TrimSpace(n.Value), "\n") {
				least = line
			}

			for part := range strings.Lines(n.Value) {
				if part = strings.TrimSpace(part); len(part) >= least && !strings.Contains(shown, part) {
					all = append(all, part)
				}
			}
		}
	}

	// The longest first: one secret may be a part of another.
	lists.Sort(all, func(a, b string) int { return len(b) - len(a) })

	pairs := make([]string, 0, 2*len(all))
	for _, secret := range all {
		pairs = append(pairs, secret, Hidden)
	}

	return Known{strings.NewReplacer(pairs...)}
}

// Plain hides the secrets of a value made of maps, lists and scalars. The value itself is not modified; one without secrets is
// returned as it is.
func Plain(v any) any {
	p := plain{nodes: map[*yaml.Node]string{}}
	doc := p.node(v)
	p.nodes = YAML(doc)

	if len(p.nodes) == 0 {
		return v
	}

	return p.value(v, doc)
}

// plain mirrors a value as a YAML document, to search it.
type plain struct {
	nodes map[*yaml.Node]string
}

func (p plain) node(v any) *yaml.Node {
	switch typed := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range slices.Sorted(maps.Keys(typed)) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, p.node(typed[key]))
		}

		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range typed {
			n.Content = append(n.Content, p.node(item))
		}

		return n
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(typed)}
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: fmt.Sprint(typed)}
	}
}

func (p plain) value(v any, n *yaml.Node) any {
	switch typed := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(typed))

		for i, key := range slices.Sorted(maps.Keys(typed)) {
			shown, secret := p.nodes[n.Content[2*i]]
			if !secret {
				shown = key
			}

			out[shown] = p.value(typed[key], n.Content[2*i+1])
		}

		return out
	case []any:
		out := make([]any, len(typed))
		for i, item := range typed {
			out[i] = p.value(item, n.Content[i])
		}

		return out
	default:
		if shown, secret := p.nodes[n]; secret {
			return shown
		}

		return v
	}
}

// place is the position of a node in its document.
type place struct {
	key    string // The key of the mapping or list that it is in.
	parent string // The key above Key.
	env    bool   // Among environment variables.
	hidden bool   // Below a field whose every value is secret.
	whole  bool   // In a document of a machine configuration or a list of files or manifests, whose contents are hidden.
}

type search struct {
	forms
	name  *regexp.Regexp
	found map[*yaml.Node]string
}

func newSearch() *search {
	f := newForms()

	return &search{forms: f, name: f.name, found: map[*yaml.Node]string{}}
}

func (s *search) walk(n *yaml.Node, at place) {
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, c := range n.Content {
			s.walk(c, at)
		}
	case yaml.MappingNode:
		s.mapping(n, at)
	case yaml.AliasNode:
		s.walk(n.Alias, at)
	case yaml.ScalarNode:
		s.scalar(n, at)
	}
}

func (s *search) mapping(n *yaml.Node, at place) {
	kind := scalar(n, "kind")
	kubeSecret := kind == "Secret"
	document := scalar(n, "apiVersion") == "v1alpha1" && strings.HasSuffix(kind, "Config") // of a machine configuration

	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		name := key.Value
		lower := strings.ToLower(name)
		in := place{key: name, parent: at.key, env: at.env, hidden: at.hidden, whole: at.whole || document}

		if key.Kind != yaml.ScalarNode {
			s.walk(key, in)
		} else if shown := s.text(name); shown != name {
			s.found[key] = shown
		}

		switch lower {
		case "env", "environment", "variables":
			in.env = true
		case "files", "configfiles", "inlinemanifests":
			in.whole = true
		}

		in.hidden = in.hidden || s.secretField(n, name, at.key, value) || (kubeSecret && (name == "data" || name == "stringData"))

		switch {
		case value.Kind != yaml.ScalarNode:
			s.walk(value, in)
		case in.whole && (lower == "content" || lower == "contents" || lower == "manifest"),
			lower == "embeddedmachineconfiguration", lower == "userdata":
			s.hideWhole(value)
		case at.env && lower == "value":
			s.variable(value, scalar(n, "name"))
		case at.env && (lower == "name" || lower == "key"):
			s.scalar(value, place{key: name, hidden: at.hidden})
		case at.env:
			s.variable(value, name)
		case lower == "value" && s.name.MatchString(scalar(n, "name")):
			s.hide(value)
		default:
			s.scalar(value, in)
		}
	}
}

// secretField reports whether the field name of the mapping n, itself under parent, is secret with all that it
// contains.
func (s *search) secretField(n *yaml.Node, name, parent string, value *yaml.Node) bool {
	switch name {
	case "credentialProviderConfig": // the kubelet's: it names programs
		return false
	case "auth":
		return value.Kind == yaml.ScalarNode // a registry's, base64 of user and password
	case "key":
		return keyOfCertificate(n, parent)
	default:
		return s.name.MatchString(name) || strings.HasSuffix(strings.ToLower(name), "headers")
	}
}

// keyOfCertificate reports whether the field key of the mapping n, itself under parent, is a private key. Other fields
// called key are names.
func keyOfCertificate(n *yaml.Node, parent string) bool {
	return child(n, "crt") != nil || child(n, "cert") != nil || slices.Contains([]string{"serviceAccount", "ca", "aggregatorCA", "clientIdentity"}, parent)
}

func (s *search) scalar(n *yaml.Node, at place) {
	if at.hidden && n.ShortTag() != "!!bool" {
		s.hide(n)

		return
	}

	if at.env {
		if name, value, ok := strings.Cut(n.Value, "="); ok {
			if shown := s.shownVariable(name, value); shown != value {
				s.found[n] = name + "=" + shown
			}

			return
		}
	}

	text := s.text(n.Value)
	if at.key == "extraKernelArgs" || strings.EqualFold(at.key, "cmdline") {
		text = s.words(text)
	}

	if text != n.Value {
		s.found[n] = text
	}
}

func (s *search) hide(n *yaml.Node) {
	if n.Value != "" && n.ShortTag() != "!!null" {
		s.found[n] = Hidden
	}
}

// hideWhole hides a text that may contain secrets anywhere. Its size and hash show whether it changed.
func (s *search) hideWhole(n *yaml.Node) {
	if n.Value != "" {
		s.found[n] = fmt.Sprintf("[redacted: %d bytes, sha256 %x]", len(n.Value), sha256.Sum256([]byte(n.Value)))
	}
}

func (s *search) variable(n *yaml.Node, name string) {
	if shown := s.shownVariable(name, n.Value); shown != n.Value {
		s.found[n] = shown
	}
}

// shownVariable returns what is shown of an environment variable: only what cannot be a secret.
func (s *search) shownVariable(name, value string) string {
	switch lower := strings.ToLower(name); {
	case value == "":
		return ""
	case s.name.MatchString(name):
		return Hidden
	case strings.HasSuffix(lower, "_proxy"):
		return s.text(value)
	case slices.Contains([]string{"path", "home", "platform", "talossku", "tz", "lang", "term", "hostname", "godebug"}, lower), harmless(value):
		return s.text(value)
	default:
		return Hidden
	}
}

// harmless reports whether a value is a boolean, a small number, or a list of paths or networks. A path begins with a
// known directory, since base64 may begin with a slash too.
func harmless(value string) bool {
	const path = `/(?:(?:bin|data|dev|etc|home|lib|lib64|mnt|opt|proc|root|run|sbin|srv|sys|system|tmp|usr|var)(?:/[a-zA-Z0-9_./-]{0,60})?)?`

	for part := range strings.SplitSeq(value, ",") {
		_, addr := netip.ParseAddr(part)
		_, prefix := netip.ParsePrefix(part)

		if addr != nil && prefix != nil && !regexp.MustCompile(`^(?:true|false|yes|no|on|off|\d{1,5}|`+path+`)$`).MatchString(part) {
			return false
		}
	}

	return true
}

// forms are the patterns of secrets in any text.
type forms struct {
	private, userinfo, query, scheme, assigned, line, pair, encoded, name *regexp.Regexp
}

// newForms compiles the patterns at the first call: it takes half a millisecond, and a list has a search for each row.
var newForms = sync.OnceValue(compile) //nolint:gochecknoglobals // a constant, if there were constants of this type

func compile() forms {
	const name = `[a-z0-9_.-]*(?:` + secretWords + `)[a-z0-9_.-]*`

	return forms{
		private:  regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
		userinfo: regexp.MustCompile(`(://)[^/?#\s"'<>]*@`),
		query:    regexp.MustCompile(`(?i)([?&][a-z0-9_.-]*(?:` + secretWords + `|key|sig|signature)[a-z0-9_.-]*=)([^&\s"']+)`),
		scheme:   regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)([a-z0-9+/=._~-]{6,})`),
		assigned: regexp.MustCompile(`(?im)((?:^|[\s{,;"'])` + name + `["']?[ \t]*=[ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s,;}\]"']+)`),
		line:     regexp.MustCompile(`(?im)(^[ \t]*(?:#[ \t]*)?(?:- )?["']?` + name + `["']?[ \t]*:[ \t]+)(\S.*)$`),
		pair:     regexp.MustCompile(`(?i)(["']` + name + `["'][ \t]*:[ \t]*)("(?:[^"\\]|\\.)*"|'[^'\n]*'|[^\s,}\]"']+)`),
		encoded:  regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9+/]{%d,}={0,2}`, leastEncoded)),
		name:     regexp.MustCompile(`(?i)` + secretWords),
	}
}

func (f forms) text(text string) string {
	if text == "" {
		return text
	}

	// Most texts have none of what a pattern cannot match without, and lists have hundreds of thousands of them.
	has := func(one string) bool { return strings.ContainsAny(text, one) }

	if strings.Contains(text, "-----BEGIN ") {
		text = f.private.ReplaceAllString(text, Hidden)
	}

	if strings.Contains(text, "://") {
		text = f.userinfo.ReplaceAllString(text, "${1}"+Hidden+"@")
	}

	if has("=") && has("?&") {
		text = pairs(f.query, text, harmless)
	}

	if has("=") {
		text = pairs(f.assigned, text, harmless)
	}

	if has(":") {
		text = pairs(f.pair, pairs(f.line, text, harmless), harmless)
	}

	if has(" \t\n\f\r") { // "basic authentication" is not a credential.
		text = pairs(f.scheme, text, func(value string) bool { return regexp.MustCompile(`^[a-z]+\.?$`).MatchString(value) })
	}

	if len(text) < leastEncoded {
		return text
	}

	// base64, perhaps over several lines: hidden when its decoded text has a secret.
	if joined := strings.Join(strings.Fields(text), ""); len(joined) < len(text) && f.encoded.FindString(joined) == joined && f.decodes(joined) {
		return Hidden
	}

	return f.encoded.ReplaceAllStringFunc(text, func(part string) string {
		if f.decodes(part) {
			return Hidden
		}

		return part
	})
}

// leastEncoded is how long base64 is that is decoded: shorter text is most often a word.
const leastEncoded = 24

// pairs hides the values of a pattern with a name and a value, except harmless ones.
func pairs(form *regexp.Regexp, text string, harmless func(string) bool) string {
	return form.ReplaceAllStringFunc(text, func(pair string) string {
		m := form.FindStringSubmatch(pair)
		if value := strings.Trim(m[2], `"'`); value == "" || strings.HasPrefix(value, Hidden) || harmless(value) {
			return pair
		}

		return m[1] + Hidden
	})
}

// words hides the values of assignments in a list of words, such as kernel arguments.
func (f forms) words(text string) string {
	return regexp.MustCompile(`(?i)(\S*(?:`+secretWords+`|key|auth|cred)\S*?=)\S+`).ReplaceAllString(text, "${1}"+Hidden)
}

// decodes reports whether a text is the base64 of a text with a secret.
func (f forms) decodes(encoded string) bool {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		raw, err = base64.RawStdEncoding.DecodeString(encoded)
	}

	return err == nil && utf8.Valid(raw) && f.text(string(raw)) != string(raw)
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}

	return n
}

func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if resolve(n.Content[i]).Value == key {
			return resolve(n.Content[i+1])
		}
	}

	return nil
}

func scalar(n *yaml.Node, key string) string {
	if c := child(n, key); c != nil && c.Kind == yaml.ScalarNode {
		return c.Value
	}

	return ""
}
