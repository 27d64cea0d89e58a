package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sort"
	"strings"
	"time"

	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"

	"github.com/talosmate/talosmate/internal/errs"
)

// Context is one cluster of a talosconfig with its credentials decoded.
type Context struct {
	Name      string
	Endpoints []string
	Nodes     []string
	Cluster   string
	Omni      string // The identity that signs requests to Omni (auth.siderov1); empty for a context with a certificate.
	Proxy     string // The proxy's URL, "direct" for none; empty for that of the environment.

	Roles       []string  // The roles in the client certificate, sorted.
	NotAfter    time.Time // When the client certificate expires; zero without one.
	Fingerprint string    // SHA-256 of the client certificate, hex; empty without one.

	tls *tls.Config
}

// Identity is a text that differs for another cluster, another way to it, or another certificate.
func (c *Context) Identity() string {
	parts := append([]string{c.Name, c.Cluster, c.Omni, c.Proxy, c.Fingerprint}, slices.Sorted(slices.Values(c.Endpoints))...)

	return strings.Join(parts, "\n")
}

// TLS returns the credentials for a connection.
func (c *Context) TLS() *tls.Config { return c.tls.Clone() }

// newContext decodes the credentials without using them, so that `config info` can show broken ones.
func newContext(name string, raw *clientconfig.Context) (*Context, error) {
	c := &Context{
		Name: name, Endpoints: raw.Endpoints, Nodes: raw.Nodes, Cluster: raw.Cluster,
		Proxy: raw.ProxyURL, Roles: []string{},
		tls: &tls.Config{MinVersion: tls.VersionTLS12},
	}

	if raw.Auth.SideroV1 != nil {
		if c.Omni = raw.Auth.SideroV1.Identity; c.Omni == "" {
			return nil, errs.Usagef("context %q has auth.siderov1 without an identity", name)
		}
	}

	if raw.CA != "" {
		ca, err := base64.StdEncoding.DecodeString(raw.CA)
		if err != nil {
			return nil, errs.Usagef("cannot decode the CA of context %q: %w", name, err)
		}

		c.tls.RootCAs = x509.NewCertPool()
		if !c.tls.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errs.Usagef("the CA of context %q is not a PEM certificate", name)
		}
	}

	if raw.Crt == "" && raw.Key == "" {
		return c, nil
	}

	crt, err := base64.StdEncoding.DecodeString(raw.Crt)
	if err != nil {
		return nil, errs.Usagef("cannot decode the certificate of context %q: %w", name, err)
	}

	key, err := base64.StdEncoding.DecodeString(raw.Key)
	if err != nil {
		return nil, errs.Usagef("cannot decode the key of context %q", name)
	}

	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		return nil, errs.Usagef("cannot use the certificate of context %q: %w", name, err)
	}

	leaf := pair.Leaf

	c.tls.Certificates = []tls.Certificate{pair}
	c.NotAfter = leaf.NotAfter
	c.Roles = append(c.Roles, leaf.Subject.Organization...)
	sort.Strings(c.Roles)

	sum := sha256.Sum256(leaf.Raw)
	c.Fingerprint = hex.EncodeToString(sum[:])

	return c, nil
}

// HasAnyRole reports whether the certificate has one of the roles; true when the roles are unknown because there is no
// certificate, since then only the server can decide.
func (c *Context) HasAnyRole(roles []string) bool {
	if len(roles) == 0 || c.Fingerprint == "" {
		return true
	}

	return slices.ContainsFunc(c.Roles, func(have string) bool { return slices.Contains(roles, have) })
}

// Trusts reports whether the context's authority is the one of a machine configuration, given as PEM in base64.
func (c *Context) Trusts(authority string) bool {
	pem, err := base64.StdEncoding.DecodeString(authority)
	if err != nil || c.tls.RootCAs == nil {
		return false
	}

	pool := x509.NewCertPool()

	return pool.AppendCertsFromPEM(pem) && pool.Equal(c.tls.RootCAs)
}

// RoleList formats the roles for a message.
func (c *Context) RoleList() string {
	if len(c.Roles) == 0 {
		return "no role"
	}

	return strings.Join(c.Roles, ", ")
}
