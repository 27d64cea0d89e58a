package factory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/image-factory/pkg/client"
	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/imager"
)

// DefaultURL is the public factory.
const DefaultURL = "https://factory.talos.dev"

// Client sends requests to a factory. The timeout bounds each of them.
type Client struct {
	api     *client.Client
	url     string
	timeout time.Duration
}

// New makes a client of a factory. The URL must be an http or https one.
func New(base string, timeout time.Duration) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errs.Usagef("%q is not the URL of an Image Factory", base).WithHint("write it like %s", DefaultURL)
	}

	base = strings.TrimSuffix(base, "/")

	api, err := client.New(base, client.WithClient(http.Client{Transport: http.DefaultTransport}))
	if err != nil {
		return nil, errs.Usagef("cannot use the factory %s: %w", base, err)
	}

	return &Client{api: api, url: base, timeout: timeout}, nil
}

// Create registers a schematic. Registering the same one again changes nothing. An answer with an ID other than the one
// computed here means that the factory does not know one of its fields.
func (c *Client) Create(ctx context.Context, s schematic.Schematic) (Schematic, error) {
	out, err := Describe(s)
	if err != nil {
		return out, err
	}

	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	id, err := c.api.SchematicCreate(ctx, s)
	if err != nil {
		return out, c.failure("register the schematic", err)
	}

	out.Created, out.Factory = true, c.url

	if id != out.ID {
		err = errs.New(errs.Failed, "the factory %s registered schematic %s, but its ID is %s", c.url, id, out.ID).
			WithHint("the factory is probably older than this program and ignored fields that it does not know")
	}

	return out, err
}

// CreateText registers a schematic with fields that this program does not know. Only the factory knows its ID.
func (c *Client) CreateText(ctx context.Context, s schematic.Schematic, text []byte) (Schematic, error) {
	const op = "register the schematic"

	out := describe(s)
	out.YAML = string(text)

	answer, err := c.call(ctx, op, http.MethodPost, "/schematics", text)
	if err != nil {
		return out, err
	}

	var created struct {
		ID string `json:"id"`
	}

	if err = foreign.JSON(answer, &created); err != nil || !schematicID(created.ID) {
		return out, errs.New(errs.Failed, "cannot %s: the answer of %s has no ID of a schematic", op, c.url)
	}

	out.ID, out.Created, out.Factory = created.ID, true, c.url

	return out, nil
}

// schematicID reports whether a text is an ID: a SHA-256 in hexadecimal.
func schematicID(id string) bool {
	raw, err := hex.DecodeString(id)

	return err == nil && len(raw) == sha256.Size
}

// call sends a request that the factory's own client cannot: it returns the text of the answer.
func (c *Client) call(ctx context.Context, op, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, c.failure(op, err)
	}

	if body != nil {
		req.Header.Set("Content-Type", "application/yaml")
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, c.failure(op, err)
	}

	defer resp.Body.Close() //nolint:errcheck // it was only read

	text, err := io.ReadAll(io.LimitReader(resp.Body, schematicLimit))
	if err != nil {
		return nil, c.failure(op, err)
	}

	if resp.StatusCode/100 != 2 {
		return nil, c.failure(op, &client.HTTPError{Code: resp.StatusCode, Message: strings.TrimSpace(string(text))})
	}

	return text, nil
}

// schematicLimit bounds a schematic's text; real ones are below a kilobyte.
const schematicLimit = 1 << 20

// Schematic reads a schematic from the factory, which Image Factory supports from v0.9.0 on. Not found is an error of
// kind not_found.
func (c *Client) Schematic(ctx context.Context, id string) (Schematic, error) {
	const op = "read the schematic"

	text, err := c.call(ctx, op, http.MethodGet, "/schematics/"+url.PathEscape(id), nil)

	var failure *errs.Error
	if errors.As(err, &failure) && failure.Kind == errs.KindNotFound {
		failure.Hint = "talosmate factory schematic create -f FILE"
	}

	if err != nil {
		return Schematic{}, err
	}

	// A newer factory may have fields that are unknown here: they stay in the text.
	var s schematic.Schematic
	if err = foreign.YAML(text, &s); err != nil {
		return Schematic{}, errs.New(errs.Failed, "cannot %s: the answer of %s is not a schematic: %w", op, c.url, err)
	}

	out := describe(s)
	out.ID, out.YAML, out.Created, out.Factory = id, string(text), true, c.url

	return out, nil
}

// Version is a Talos version that a factory builds.
type Version struct {
	Version    string `json:"version"`    // The version, v1.13.9.
	Prerelease bool   `json:"prerelease"` // Whether it is an alpha, beta or release candidate.
}

// Versions lists the versions that the factory builds, newest first.
func (c *Client) Versions(ctx context.Context) ([]Version, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	tags, err := c.api.Versions(ctx)
	if err != nil {
		return nil, c.failure("list the versions", err)
	}

	type parsed struct {
		Version
		order semver.Version
	}

	list := make([]parsed, 0, len(tags))

	for _, tag := range tags {
		v, err := semver.ParseTolerant(tag)
		if err != nil {
			continue // not a version that can be built
		}

		list = append(list, parsed{Version{Version: tag, Prerelease: len(v.Pre) > 0}, v})
	}

	lists.Sort(list, func(a, b parsed) int { return b.order.Compare(a.order) })

	return lists.Map(list, func(p parsed) Version { return p.Version }), nil
}

// Extension is an official extension that a factory offers for a Talos version.
type Extension struct {
	Name        string `json:"name"`        // The name that schematics use, siderolabs/qemu-guest-agent.
	Tag         string `json:"tag"`         // The extension's own version.
	Tier        string `json:"tier"`        // core, extra or contrib; unknown where the catalogue does not say.
	Author      string `json:"author"`      // Its author.
	Description string `json:"description"` // Its description.
	Image       string `json:"image"`       // Its image by tag.
	Digest      string `json:"digest"`      // The image's digest.
}

// Extensions lists the official extensions for a Talos version, by name.
func (c *Client) Extensions(ctx context.Context, version string) ([]Extension, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	list, err := c.api.ExtensionsVersions(ctx, url.PathEscape(version))
	if err != nil {
		return nil, c.failure("list the extensions of "+version, err)
	}

	out := make([]Extension, 0, len(list))

	for _, e := range list {
		tier, text := imager.TierOf(e.Description)
		_, tag, _ := strings.Cut(path.Base(e.Ref), ":")
		out = append(out, Extension{
			Name: e.Name, Tag: tag, Tier: tier, Author: e.Author, Description: text, Image: e.Ref, Digest: e.Digest,
		})
	}

	lists.Sort(out, func(a, b Extension) int { return strings.Compare(a.Name, b.Name) })

	return out, nil
}

// failure gives a factory's refusal its stable word, exit code and hint.
func (c *Client) failure(op string, err error) *errs.Error {
	out := errs.New(errs.Unreachable, "cannot %s at %s: %w", op, c.url, err).WithKind(errs.KindUnreachable)
	out.Retryable = true

	var (
		answer  *client.HTTPError
		invalid *client.InvalidSchematicError
	)

	switch {
	case errors.Is(err, context.Canceled):
		out.Exit, out.Kind, out.Retryable = errs.Interrupted, errs.KindInterrupted, false
	case errors.As(err, &invalid), errors.As(err, &answer) && answer.Code == http.StatusBadRequest:
		out.Exit, out.Kind, out.Retryable = errs.Usage, errs.KindInvalid, false
		out.Hint = "the factory's answer names what it does not accept"
	case !errors.As(err, &answer):
		out.Hint = "check the factory's URL, and that this machine can reach it"
	case answer.Code == http.StatusNotFound:
		out.Exit, out.Kind, out.Retryable = errs.Failed, errs.KindNotFound, false
		out.Hint = "talosmate factory versions"
	case answer.Code == http.StatusUnauthorized, answer.Code == http.StatusForbidden:
		out.Kind, out.Retryable = errs.KindUnauthenticated, false
	case answer.Code < http.StatusInternalServerError && answer.Code != http.StatusTooManyRequests:
		out.Exit, out.Kind, out.Retryable = errs.Failed, errs.KindFailed, false
	}

	return out
}
