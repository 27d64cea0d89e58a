package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Reference is a parsed image name.
type Reference struct {
	Repository string // with its registry, e.g. ghcr.io/siderolabs/installer
	Tag        string
	Digest     string
}

// ParseReference reads an image name as containerd does, with Docker's defaults.
func ParseReference(name string) (Reference, error) {
	var r Reference

	rest, digest, hasDigest := strings.Cut(name, "@")
	if hasDigest {
		if !digestPattern().MatchString(digest) {
			return r, fmt.Errorf("invalid reference format: %q", name)
		}

		r.Digest = digest
	}

	slash := strings.LastIndexByte(rest, '/')
	if colon := strings.LastIndexByte(rest, ':'); colon > slash {
		r.Tag, rest = rest[colon+1:], rest[:colon]
	}

	if rest == "" || rest != strings.ToLower(rest) || strings.ContainsAny(rest, " \t\n") {
		return r, fmt.Errorf("invalid reference format: %q", name)
	}

	registry, _, found := strings.Cut(rest, "/")
	switch {
	case !found:
		rest = "docker.io/library/" + rest
	case !strings.ContainsAny(registry, ".:") && registry != "localhost":
		rest = "docker.io/" + rest
	}

	r.Repository = rest

	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}

	return r, nil
}

// Registry is the host part.
func (r Reference) Registry() string {
	host, _, _ := strings.Cut(r.Repository, "/")

	return host
}

// Path is the repository without its registry.
func (r Reference) Path() string {
	_, path, _ := strings.Cut(r.Repository, "/")

	return path
}

// String prefers the tag form, as containerd names a pulled image.
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}

	if r.Digest != "" {
		s += "@" + r.Digest
	}

	return s
}

func digestPattern() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) }

func sum(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))

	return "sha256:" + hex.EncodeToString(h[:])
}
