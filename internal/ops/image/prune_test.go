package image_test

import (
	"slices"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/talos"
)

var now = time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a fixed point in time

// names returns all four forms of an image name, as containerd shows them.
func names(repo, tag, digest, id string, age time.Duration) []talos.Image {
	created := now.Add(-age)
	out := []talos.Image{}

	for _, n := range []string{repo + ":" + tag, repo + "@sha256:" + digest, "sha256:" + id, "sha256:" + digest} {
		out = append(out, talos.Image{
			Name: n, Digest: "sha256:" + digest, SizeBytes: 100, Created: &created, Kind: talos.ImageKind(n, "sha256:"+digest),
		})
	}

	return out
}

func inventory(images ...[]talos.Image) image.Inventory {
	return image.Inventory{Images: slices.Concat(images...), Version: "v1.13.8", Now: now}
}

func candidates(p image.Plan) []string {
	out := []string{}
	for _, c := range p.Candidates {
		out = append(out, c.Image)
	}

	return out
}

const day = 24 * time.Hour

func TestUseIsFoundUnderEveryNameForm(t *testing.T) {
	t.Parallel()

	for _, ref := range []string{
		"registry.example/app:v1", "registry.example/app@sha256:" + hex("d"), "sha256:" + hex("c"), "sha256:" + hex("d"),
		"registry.example/app:v1@sha256:" + hex("d"),
	} {
		inv := inventory(names("registry.example/app", "v1", hex("d"), hex("c"), day))
		inv.Usage.Uses = []image.Use{{Reference: ref, By: "x"}}

		if plan := image.Make(inv, image.Policy{}); len(plan.Candidates) != 0 || plan.InUse != 1 {
			t.Errorf("in use as %s: candidates %v, in use %d", ref, candidates(plan), plan.InUse)
		}

		// A pod that Kubernetes has bound counts like a container.
		inv.Usage = image.Usage{}
		inv.Usage.AddReferences(ref)

		if plan := image.Make(inv, image.Policy{}); len(plan.Candidates) != 0 {
			t.Errorf("needed as %s: candidates %v", ref, candidates(plan))
		}
	}
}

func TestShortNamesAreTheirLongOnes(t *testing.T) {
	t.Parallel()

	inv := inventory(names("docker.io/library/nginx", "latest", hex("1"), hex("2"), day))
	inv.Usage.AddReferences("nginx")

	if plan := image.Make(inv, image.Policy{}); len(plan.Candidates) != 0 {
		t.Errorf("candidates %v", candidates(plan))
	}
}

func TestPrefixesAreToldApart(t *testing.T) {
	t.Parallel()

	inv := inventory(names("registry.example/app", "v1", hex("1"), hex("2"), day), names("registry.example/app-extra", "v1", hex("3"), hex("4"), day),
		names("registry.example/app", "v10", hex("5"), hex("6"), day))
	inv.Usage.AddReferences("registry.example/app-extra:v1", "registry.example/app:v10")

	if got := candidates(image.Make(inv, image.Policy{})); !slices.Equal(got, []string{"registry.example/app:v1"}) {
		t.Errorf("candidates %v", got)
	}
}

func TestWhatStays(t *testing.T) {
	t.Parallel()

	pinned := names("registry.example/pinned", "v1", hex("1"), hex("2"), day)
	for i := range pinned {
		pinned[i].Pinned = i == 0 // one name's label holds for the image
	}

	for name, c := range map[string]struct {
		images []talos.Image
		policy image.Policy
		goes   bool
	}{
		"pinned":                          {pinned, image.Policy{}, false},
		"pause":                           {names("registry.k8s.io/pause", "3.10", hex("1"), hex("2"), day), image.Policy{}, false},
		"the running installer":           {names("ghcr.io/siderolabs/installer", "v1.13.8", hex("1"), hex("2"), day), image.Policy{}, false},
		"a factory installer of it":       {names("factory.talos.dev/metal-installer-secureboot/"+hex("e"), "v1.13.8", hex("1"), hex("2"), day), image.Policy{}, false},
		"an old factory installer":        {names("factory.talos.dev/metal-installer/"+hex("e"), "v1.12.0", hex("1"), hex("2"), day), image.Policy{}, true},
		"an installer without a tag":      {names("ghcr.io/siderolabs/installer", "v1.12.0", hex("1"), hex("2"), day)[1:], image.Policy{}, false},
		"an old installer":                {names("ghcr.io/siderolabs/installer", "v1.12.0", hex("1"), hex("2"), day), image.Policy{}, true},
		"a young one":                     {names("registry.example/app", "v1", hex("1"), hex("2"), time.Minute), image.Policy{OlderThan: 10 * time.Minute}, false},
		"an old one":                      {names("registry.example/app", "v1", hex("1"), hex("2"), 11*time.Minute), image.Policy{OlderThan: 10 * time.Minute}, true},
		"excluded by glob":                {names("registry.example/app", "v1", hex("1"), hex("2"), day), image.Policy{Exclude: []string{"registry.example/*"}}, false},
		"excluded by repository":          {names("registry.example/app", "v1", hex("1"), hex("2"), day), image.Policy{Exclude: []string{"registry.example/app"}}, false},
		"another's exclusion":             {names("registry.example/app", "v1", hex("1"), hex("2"), day), image.Policy{Exclude: []string{"registry.example/ap"}}, true},
		"the youngest of its repository":  {names("registry.example/app", "v1", hex("1"), hex("2"), day), image.Policy{Keep: 1}, false},
		"something called like the pause": {names("registry.example/pause-app", "v1", hex("1"), hex("2"), day), image.Policy{}, true},
	} {
		plan := image.Make(inventory(c.images), c.policy)
		if (len(plan.Candidates) == 1) != c.goes {
			t.Errorf("%s: candidates %v, kept %v", name, candidates(plan), plan.Kept)
		}
	}
}

func TestBytesCountEachImageOnce(t *testing.T) {
	t.Parallel()

	plan := image.Make(inventory(names("registry.example/a", "v1", hex("1"), hex("2"), day), names("registry.example/b", "v1", hex("3"), hex("4"), day)), image.Policy{})
	if plan.Bytes() != 200 || plan.TotalImages != 2 {
		t.Errorf("%d bytes of %d images", plan.Bytes(), plan.TotalImages)
	}

	for _, c := range plan.Candidates {
		if len(c.Names) != 4 {
			t.Errorf("%s would lose only %v", c.Image, c.Names)
		}
	}
}

func TestAReferenceUnderNoKnownNameKeepsItsRepository(t *testing.T) {
	t.Parallel()

	inv := inventory(names("registry.example/app", "v1", hex("1"), hex("2"), day), names("registry.example/other", "v1", hex("3"), hex("4"), day))
	inv.Usage.AddReferences("registry.example/app:v9")

	if got := candidates(image.Make(inv, image.Policy{})); !slices.Equal(got, []string{"registry.example/other:v1"}) {
		t.Errorf("candidates %v", got)
	}
}

func hex(digit string) string {
	out := ""
	for len(out) < 64 {
		out += digit
	}

	return out
}
