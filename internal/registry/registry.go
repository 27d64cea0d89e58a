// Package registry is the adapter to container registries: it resolves images to digests, reads and pushes them with
// the user's own credentials, and parses Talos installer references.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// DefaultTimeout bounds one request to a registry unless the options set another limit.
const DefaultTimeout = 30 * time.Second

// Options configure access to registries.
type Options struct {
	// Env looks up an environment variable; credentials are found through it.
	Env func(string) (string, bool)
	// PlainHTTP are additional hosts (host or host:port) for which HTTP without TLS is allowed. It is always allowed
	// for loopback. Private addresses must be named here, so that credentials are never sent unencrypted by mistake.
	PlainHTTP []string
	// CAFile is a PEM file with certificate authorities to trust in addition to the system's.
	CAFile string
	// Timeout bounds one request; DefaultTimeout when zero. Uploads and downloads of layers are bounded by their
	// context only.
	Timeout time.Duration
}

// Client sends requests to registries. It is safe for concurrent use.
type Client struct {
	options   Options
	transport http.RoundTripper
	keychain  keychain
}

// New makes a client. A CA file that cannot be used is a usage error. Nothing is dialled.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}

	if o.Env == nil {
		o.Env = func(string) (string, bool) { return "", false }
	}

	base := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       10 * time.Second,
		MaxIdleConnsPerHost:   16,
	}

	if o.CAFile != "" {
		pool, err := trust(o.CAFile)
		if err != nil {
			return nil, err
		}

		base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}

	c := &Client{options: o, keychain: keychain{env: o.Env}}
	c.transport = &cleartextGuard{next: base, allowed: c.plain}

	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	if guard, ok := c.transport.(*cleartextGuard); ok {
		guard.next.CloseIdleConnections()
	}
}

// Image is a resolved reference.
type Image struct {
	Reference string   `json:"reference"`           // The requested reference, with its registry.
	Digest    string   `json:"digest"`              // The manifest's digest, sha256: and 64 hex digits.
	Pinned    string   `json:"pinned"`              // The same image by digest, repository@digest.
	MediaType string   `json:"media_type"`          // The manifest's media type.
	Platforms []string `json:"platforms,omitempty"` // os/arch of each image, where the manifest is an index.
}

// Resolve asks the registry for a reference's digest. The error wraps ErrNotFound, ErrUnauthorised or ErrUnreachable
// where that is the cause, and is always a typed error with a hint.
func (c *Client) Resolve(ctx context.Context, reference string) (Image, error) {
	ref, err := c.parse(reference)
	if err != nil {
		return Image{}, err
	}

	desc, err := c.descriptor(ctx, ref)
	if err != nil {
		return Image{}, failure("resolve image", reference, err)
	}

	out := Image{
		Reference: ref.Name(), Digest: desc.Digest.String(), MediaType: string(desc.MediaType),
		Pinned: ref.Context().Name() + "@" + desc.Digest.String(),
	}

	if !desc.MediaType.IsIndex() {
		return out, nil
	}

	index, err := desc.ImageIndex()
	if err != nil {
		return out, failure("read the index of image", reference, err)
	}

	manifest, err := index.IndexManifest()
	if err != nil {
		return out, failure("read the index of image", reference, err)
	}

	out.Platforms = platforms(manifest)

	return out, nil
}

// platforms lists os/arch of an index's images, without the attestations that some builders add as unknown.
func platforms(index *v1.IndexManifest) []string {
	var out []string

	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "" && m.Platform.OS != "unknown" {
			out = append(out, m.Platform.OS+"/"+m.Platform.Architecture)
		}
	}

	slices.Sort(out)

	return slices.Compact(out)
}

func (c *Client) descriptor(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()

	return remote.Get(ref, c.remote(ctx)...)
}

func (c *Client) remote(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(c.transport), remote.WithAuthFromKeychain(c.keychain),
		remote.WithUserAgent("talosmate"),
		remote.WithRetryBackoff(remote.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 3}),
	}
}

func (c *Client) parse(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, badReference(reference, err)
	}

	if c.plain(ref.Context().RegistryStr()) {
		if ref, err = name.ParseReference(reference, name.Insecure); err != nil {
			return nil, badReference(reference, err)
		}
	}

	return ref, nil
}

func badReference(reference string, err error) error {
	return errs.Usagef("%q is not an image reference: %w", reference, err).
		WithHint("write it as REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST")
}

// plain reports whether HTTP without TLS is allowed for a host.
func (c *Client) plain(host string) bool {
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}

	if ip := net.ParseIP(strings.Trim(bare, "[]")); bare == "localhost" || ip != nil && ip.IsLoopback() {
		return true
	}

	return slices.Contains(c.options.PlainHTTP, host) || slices.Contains(c.options.PlainHTTP, bare)
}

// cleartextGuard refuses HTTP without TLS to hosts that were not named for it: the library tries it for every private
// address.
type cleartextGuard struct {
	next    *http.Transport
	allowed func(host string) bool
}

func (g *cleartextGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.allowed(r.URL.Host) {
		return nil, fmt.Errorf("%s: %w", r.URL.Host, errCleartext)
	}

	return g.next.RoundTrip(r)
}

func trust(file string) (*x509.CertPool, error) {
	pem, err := fsutil.ReadFile(file, fsutil.MaxText)
	if err != nil {
		return nil, errs.Usagef("cannot read the registry's certificate authority: %w", err)
	}

	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}

	if !pool.AppendCertsFromPEM(pem) {
		return nil, errs.Usagef("%s has no PEM certificate", file)
	}

	return pool, nil
}
