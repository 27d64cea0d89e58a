package machineconfig

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secrets finds the scalars that are or hold a secret, with what is shown instead. It goes by the names of
// the fields and by the form of the values rather than by a list of documents, so that it holds for documents
// of newer Talos versions too; it rather hides too much.
func secrets(doc *yaml.Node) map[*yaml.Node]string {
	s := &search{
		found:    map[*yaml.Node]string{},
		userinfo: regexp.MustCompile(`(://)[^/@\s]+@`),
		query:    regexp.MustCompile(`(?i)([?&][a-z_-]*(?:token|secret|password|key)=)[^&\s"']+`),
		assigned: regexp.MustCompile(`(?i)^([a-z0-9_.-]*(?:token|secret|passw|pwd|key|cred|auth)[a-z0-9_.-]*=).+`),
		named:    regexp.MustCompile(`(?i)(?:token|secret|passw|pwd|apikey|api_key|authkey|auth_key|private_key|access_key|cred)`),
	}
	s.walk(doc, "", false)

	return s.found
}

type search struct {
	found                            map[*yaml.Node]string
	userinfo, query, assigned, named *regexp.Regexp
}

// walk looks at n, which stands under the key name; env says that it is among environment variables.
func (s *search) walk(n *yaml.Node, name string, env bool) {
	switch n.Kind {
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, c := range n.Content {
			s.walk(c, name, env)
		}
	case yaml.MappingNode:
		env = env || name == "env" || name == "environment"

		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]

			if value.Kind == yaml.ScalarNode && value.Value != "" && (secretName(key, name, n) || (env && s.named.MatchString(key))) {
				s.found[value] = Redacted

				continue
			}

			s.walk(value, key, env)
		}
	case yaml.AliasNode:
		s.walk(n.Alias, name, env)
	case yaml.ScalarNode:
		s.value(n, name)
	}
}

// secretName says whether the field key of the mapping n, itself under parent, holds a secret.
func secretName(key, parent string, n *yaml.Node) bool {
	lower := strings.ToLower(key)

	for _, suffix := range []string{
		"token", "secret", "password", "passphrase", "privatekey", "presharedkey", "psk", "authkey", "apikey", "secretkey", "keydata",
	} {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}

	switch key {
	case "key":
		// a certificate's key, the service accounts' key; other keys name things
		return child(n, "crt") != nil || slices.Contains([]string{"serviceAccount", "ca", "aggregatorCA", "clientIdentity"}, parent)
	case "auth":
		return true // a registry's, base64 of user and password
	default:
		return false
	}
}

// value looks at the form of a value: private keys, and URLs and assignments with secrets in them.
func (s *search) value(n *yaml.Node, name string) {
	if privateKey(n.Value) {
		s.found[n] = Redacted

		return
	}

	text := s.userinfo.ReplaceAllString(n.Value, "${1}"+Redacted+"@")
	text = s.query.ReplaceAllString(text, "${1}"+Redacted)

	if name == "environment" || name == "env" || name == "extraKernelArgs" {
		text = s.assigned.ReplaceAllString(text, "${1}"+Redacted)
	}

	if text != n.Value {
		s.found[n] = text
	}
}

func privateKey(value string) bool {
	if strings.Contains(value, "PRIVATE KEY-----") {
		return true
	}

	if len(value) < 100 {
		return false
	}

	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))

	return err == nil && strings.Contains(string(raw), "PRIVATE KEY-----")
}
