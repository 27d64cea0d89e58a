// Package imageref takes the names of container images apart, by the rules of go-containerregistry.
package imageref

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Ref is an image reference in its parts, spelt as they were: REPOSITORY:TAG@DIGEST.
type Ref struct {
	Repository string
	Tag        string // Empty where the reference has none.
	Digest     string // Empty where the reference has none.
}

// Split takes a reference apart. One that is not a valid reference, and a bare digest, is all repository.
func Split(reference string) Ref {
	tagged, digest, _ := strings.Cut(reference, "@")

	parsed, err := name.NewTag(tagged, name.WithDefaultTag(""))
	if err != nil || Bare(reference) {
		return Ref{Repository: reference}
	}

	return Ref{Repository: strings.TrimSuffix(tagged, ":"+parsed.TagStr()), Tag: parsed.TagStr(), Digest: digest}
}

// Bare reports whether the name is a digest or an image ID without a repository.
func Bare(reference string) bool { return strings.HasPrefix(reference, "sha256:") }

// Canonical is the full spelling of a name, as containerd stores it: docker.io/library/nginx:latest. Bare digests have
// none.
func Canonical(reference string) string {
	return full(reference, func(r name.Reference) string { return r.Name() })
}

// Repository is the full spelling of a name without its tag and digest. Bare digests have none.
func Repository(reference string) string {
	return full(reference, func(r name.Reference) string { return r.Context().Name() })
}

func full(reference string, part func(name.Reference) string) string {
	parsed, err := name.ParseReference(reference, name.WithDefaultRegistry("docker.io"), name.WithDefaultTag("latest"))
	if err != nil || Bare(reference) {
		return ""
	}

	return strings.Replace(part(parsed), "index.docker.io/", "docker.io/", 1)
}
