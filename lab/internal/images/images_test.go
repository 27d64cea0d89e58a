package images_test

import (
	"errors"
	"testing"
	"time"

	"github.com/talosmate/talosmate/lab/internal/images"
)

func resolve(t *testing.T, name string) images.Manifest {
	t.Helper()

	ref, err := images.ParseReference(name)
	if err != nil {
		t.Fatal(err)
	}

	m, err := images.NewRegistry().Resolve(ref)
	if err != nil {
		t.Fatal(err)
	}

	return m
}

func TestSpaceIsFreedWithTheLastName(t *testing.T) {
	s := images.NewStore()
	m := resolve(t, "example.com/app:v1")
	s.Pull(images.CRI, m, time.Now(), nil)

	names := images.Names(images.CRI, m)
	if len(names) != 4 || s.Used() != m.Size {
		t.Fatalf("%d names, %d bytes", len(names), s.Used())
	}

	for i, name := range names {
		if !s.Remove(images.CRI, name) {
			t.Errorf("%s was not there", name)
		}

		want := m.Size
		if i == len(names)-1 {
			want = 0
		}

		if s.Used() != want {
			t.Errorf("after %d removals %d bytes are used", i+1, s.Used())
		}
	}
}

func TestWhatExists(t *testing.T) {
	r := images.NewRegistry()

	for name, exists := range map[string]bool{
		"ghcr.io/siderolabs/installer:v1.13.9":                                    true,
		"ghcr.io/siderolabs/installer:v1.14.0":                                    false,
		"ghcr.io/siderolabs/installer:v9.9.9":                                     false,
		"ghcr.io/siderolabs/installer:latest":                                     false,
		"factory.talos.dev/metal-installer/" + images.EmptySchematic + ":v1.14.0": true,
		"registry.example.com/mirror/installer:v1.14.0":                           true,
		"example.com/nosuch:v1":                                                   false,
		"nginx":                                                                   true,
	} {
		ref, err := images.ParseReference(name)
		if err != nil {
			t.Fatal(err)
		}

		m, err := r.Resolve(ref)
		if exists != (err == nil) || !exists && !errors.Is(err, images.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}

		if !exists {
			continue
		}

		// and by its digest, once somebody asked for the tag
		ref.Tag, ref.Digest = "", m.Digest
		if again, err := r.Resolve(ref); err != nil || again.Size != m.Size {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestInstallers(t *testing.T) {
	for name, want := range map[string]images.Installer{
		"ghcr.io/siderolabs/installer:v1.13.9":                                                    {Version: "v1.13.9", Platform: "metal"},
		"factory.talos.dev/installer-secureboot/" + images.EmptySchematic + ":v1.12.1":            {Version: "v1.12.1", Platform: "metal", Schematic: images.EmptySchematic, SecureBoot: true},
		"factory.talos.dev/aws-installer/" + images.EmptySchematic + ":v1.13.0":                   {Version: "v1.13.0", Platform: "aws", Schematic: images.EmptySchematic},
		"factory.talos.dev/metal-installer-secureboot/" + images.EmptySchematic + ":v1.14.0-rc.1": {Version: "v1.14.0-rc.1", Platform: "metal", Schematic: images.EmptySchematic, SecureBoot: true},
	} {
		if got := resolve(t, name).Installer; got == nil || *got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGarbageCollection(t *testing.T) {
	s := images.NewStore()
	kept, dropped := resolve(t, "ghcr.io/siderolabs/kubelet:v1.35.4"), resolve(t, "ghcr.io/siderolabs/installer:v1.13.9")
	now := time.Now()

	s.Pull(images.System, kept, now, nil)
	s.Pull(images.System, dropped, now, nil)

	keep := func(img images.Image) bool { return img.Name == "ghcr.io/siderolabs/kubelet:v1.35.4" }

	if removed := s.Collect(now, time.Hour, keep); len(removed) != 0 {
		t.Errorf("removed when first seen unused: %v", removed)
	}

	if removed := s.Collect(now.Add(time.Hour+time.Second), time.Hour, keep); len(removed) != 3 {
		t.Errorf("removed %v", removed)
	}

	if len(s.List(images.System)) != 3 {
		t.Errorf("left %v", s.List(images.System))
	}
}
