package kube

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// maxAdminKubeconfig bounds a kubeconfig from a node. Those that Talos writes have less than a tenth of it.
const maxAdminKubeconfig = 128 << 10

// Admin is an admin kubeconfig from a node, reduced to what Talos writes. Anything else in a kubeconfig could run
// programs, read files or redirect requests on the operator's machine.
type Admin struct {
	Node      string // The node that gave it.
	Raw       []byte // The checked bytes as the node sent them.
	Context   string
	Cluster   string
	User      string
	Namespace string
	Server    string
	CA        []byte // PEM.
	Cert      []byte // PEM, with Key.
	Key       []byte
	Token     string // Instead of a certificate.
}

// ParseAdmin reads the kubeconfig that a node sent. It refuses what Talos does not write and names the field.
func ParseAdmin(node string, raw []byte) (Admin, error) {
	a := Admin{Node: node, Raw: raw}

	if err := a.parse(raw); err != nil {
		return Admin{}, errs.New(errs.Failed, "cannot use the kubeconfig of %s: %w", node, err).OnNode(node).WithKind(errs.KindUntrusted).
			WithHint("Talos does not write such a kubeconfig: check whether %s and the endpoints are what they should be", node)
	}

	return a, nil
}

func (a *Admin) parse(raw []byte) error {
	if len(raw) > maxAdminKubeconfig || !utf8.Valid(raw) {
		return fmt.Errorf("it is not text of at most %d bytes", maxAdminKubeconfig)
	}

	var doc yaml.Node

	in := yaml.NewDecoder(bytes.NewReader(raw))
	if err := in.Decode(&doc); err != nil || len(doc.Content) != 1 {
		return errors.New("it is not YAML")
	}

	if err := in.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("it is more than one YAML document")
	}

	var apiVersion, kind, current, cluster, user string

	w := &walk{}
	w.mapping(fields{
		"apiVersion": w.text(&apiVersion), "kind": w.text(&kind), "preferences": w.mapping(nil), "current-context": w.text(&current),
		"clusters": w.single(w.mapping(fields{
			"name":    w.text(&a.Cluster),
			"cluster": w.mapping(fields{"server": w.text(&a.Server), "certificate-authority-data": w.data(&a.CA)}),
		})),
		"users": w.single(w.mapping(fields{
			"name": w.text(&a.User),
			"user": w.mapping(fields{
				"client-certificate-data": w.data(&a.Cert), "client-key-data": w.data(&a.Key), "token": w.text(&a.Token),
			}),
		})),
		"contexts": w.single(w.mapping(fields{
			"name":    w.text(&a.Context),
			"context": w.mapping(fields{"cluster": w.text(&cluster), "user": w.text(&user), "namespace": w.text(&a.Namespace)}),
		})),
	})("", doc.Content[0])

	if w.err != nil {
		return w.err
	}

	if apiVersion != "v1" || kind != "Config" {
		return errors.New("it is not a v1 Config")
	}

	if current != a.Context || cluster != a.Cluster || user != a.User {
		return errors.New("current-context does not name a complete context")
	}

	return a.check()
}

// check checks the values of the accepted fields.
func (a *Admin) check() error {
	for _, f := range []struct{ field, name string }{
		{"contexts[0].name", a.Context},
		{"clusters[0].name", a.Cluster},
		{"users[0].name", a.User},
		{"contexts[0].context.namespace", cmp.Or(a.Namespace, "default")},
	} {
		if _, err := fsutil.Element(f.name); err != nil {
			return fmt.Errorf("%s is not a usable name", f.field)
		}
	}

	if !isServer(a.Server) {
		return errors.New("clusters[0].cluster.server is not an https address of the form https://HOST:PORT")
	}

	if !x509.NewCertPool().AppendCertsFromPEM(a.CA) {
		return errors.New("clusters[0].cluster.certificate-authority-data holds no certificate")
	}

	if a.Token != "" && !regexp.MustCompile(`^[!-~]+$`).MatchString(a.Token) {
		return errors.New("users[0].user.token is not a token")
	}

	if a.Token != "" && len(a.Cert)+len(a.Key) == 0 {
		return nil
	}

	if _, err := tls.X509KeyPair(a.Cert, a.Key); err != nil {
		return errors.New("users[0].user.client-certificate-data and client-key-data are not a certificate and its key")
	}

	return nil
}

// isServer reports whether s is an https URL of a host with an optional port, and nothing else.
func isServer(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#") {
		return false
	}

	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}

	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return addr.Zone() == ""
	}

	return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252})$`).MatchString(u.Hostname())
}

func (a Admin) rest() *rest.Config {
	return &rest.Config{
		Host: a.Server, BearerToken: a.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: a.CA, CertData: a.Cert, KeyData: a.Key},
	}
}

// config writes the accepted fields into a new kubeconfig.
func (a Admin) config() *clientcmdapi.Config {
	c := clientcmdapi.NewConfig()
	c.Clusters[a.Cluster] = &clientcmdapi.Cluster{Server: a.Server, CertificateAuthorityData: a.CA}
	c.AuthInfos[a.User] = &clientcmdapi.AuthInfo{ClientCertificateData: a.Cert, ClientKeyData: a.Key, Token: a.Token}
	c.Contexts[a.Context] = &clientcmdapi.Context{Cluster: a.Cluster, AuthInfo: a.User, Namespace: a.Namespace}
	c.CurrentContext = a.Context

	return c
}

// fields maps the allowed keys of a mapping to the functions that read their values.
type fields map[string]reader

type reader func(path string, n *yaml.Node)

// walk reads a YAML tree by an allow-list and keeps the first refusal.
type walk struct{ err error }

func (w *walk) refuse(path, why string) {
	if w.err == nil {
		w.err = fmt.Errorf("%s %s", path, why)
	}
}

// plain reports whether a node is of a kind and has no anchor, alias or explicit tag.
func (w *walk) plain(path string, n *yaml.Node, kind yaml.Kind) bool {
	if n.Kind != kind || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		w.refuse(path, "is not in the form that Talos writes")
	}

	return w.err == nil
}

func (w *walk) mapping(known fields) reader {
	return func(path string, n *yaml.Node) {
		if !w.plain(path, n, yaml.MappingNode) {
			return
		}

		seen := map[string]bool{}

		for i := 0; i+1 < len(n.Content) && w.err == nil; i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			field := strings.TrimPrefix(path+"."+printable(key.Value), ".")

			read := known[key.Value]
			if read == nil || seen[key.Value] || !w.plain(field, key, yaml.ScalarNode) {
				w.refuse(field, "is not accepted from a node")

				return
			}

			seen[key.Value] = true

			read(field, value)
		}
	}
}

// single returns the only entry of a list.
func (w *walk) single(read reader) reader {
	return func(path string, n *yaml.Node) {
		switch {
		case !w.plain(path, n, yaml.SequenceNode):
		case len(n.Content) != 1:
			w.refuse(path, "does not have exactly one entry")
		default:
			read(path+"[0]", n.Content[0])
		}
	}
}

func (w *walk) text(into *string) reader {
	return func(path string, n *yaml.Node) {
		if !w.plain(path, n, yaml.ScalarNode) {
			return
		}

		if tag := n.ShortTag(); tag == "!!null" || tag == "!!binary" {
			w.refuse(path, "is not a text")
		}

		*into = n.Value
	}
}

func (w *walk) data(into *[]byte) reader {
	return func(path string, n *yaml.Node) {
		var encoded string

		w.text(&encoded)(path, n)

		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			w.refuse(path, "is not base64")
		}

		*into = raw
	}
}

// printable shortens and quotes a key that is not a plain word.
func printable(key string) string {
	if regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`).MatchString(key) {
		return key
	}

	return strconv.QuoteToASCII(key[:min(len(key), 64)])
}
