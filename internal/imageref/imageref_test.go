package imageref_test

import (
	"testing"

	"github.com/talosmate/talosmate/internal/imageref"
)

func TestSplit(t *testing.T) {
	t.Parallel()

	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	for reference, want := range map[string]imageref.Ref{
		"nginx":                              {Repository: "nginx"},
		"nginx:1.27":                         {Repository: "nginx", Tag: "1.27"},
		"registry.example:5000/nginx":        {Repository: "registry.example:5000/nginx"},
		"registry.example:5000/a/nginx:1":    {Repository: "registry.example:5000/a/nginx", Tag: "1"},
		"[::1]:5000/nginx:1":                 {Repository: "[::1]:5000/nginx", Tag: "1"},
		"ghcr.io/x/y@" + digest:              {Repository: "ghcr.io/x/y", Digest: digest},
		"ghcr.io/x/y:v1@" + digest:           {Repository: "ghcr.io/x/y", Tag: "v1", Digest: digest},
		digest:                               {Repository: digest},
		"no reference":                       {Repository: "no reference"},
		"ghcr.io/siderolabs/kubelet:v1.36.0": {Repository: "ghcr.io/siderolabs/kubelet", Tag: "v1.36.0"},
	} {
		if got := imageref.Split(reference); got != want {
			t.Errorf("%s: %+v, want %+v", reference, got, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()

	for reference, want := range map[string][2]string{
		"nginx":                    {"docker.io/library/nginx:latest", "docker.io/library/nginx"},
		"quay.io/a/b:1":            {"quay.io/a/b:1", "quay.io/a/b"},
		"docker.io/library/nginx:": {"", ""},
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": {"", ""},
	} {
		if got := [2]string{imageref.Canonical(reference), imageref.Repository(reference)}; got != want {
			t.Errorf("%s: %q, want %q", reference, got, want)
		}
	}
}
