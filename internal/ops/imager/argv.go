package imager

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/container"
)

// Paths in the imager's container.
const (
	outTarget        = "/out"
	secureBootTarget = "/secureboot"
	embeddedTarget   = "/embedded-config.yaml"
	cacheTarget      = "/image-cache"
	authTarget       = "/registry-auth"
)

// host describes the machine and engine that a container runs on.
type host struct {
	out          string // The directory bound to /out.
	name         string // The container's name, empty in a dry run.
	user         string // UID:GID to run as, empty for the image's own user.
	network      string
	registryAuth string // A file with registry credentials for the imager's own pulls.
	insecure     bool   // The registry speaks plain HTTP.
	privileged   bool
	selinux      bool
	epoch        int64 // SOURCE_DATE_EPOCH, 0 to leave it to the imager.
}

// spec builds the container. Everything that the imager pulls itself is named by digest.
func (b Build) spec(t target, inputs []Input, h host) container.Spec {
	s := container.Spec{
		Name: h.name, User: h.user, Network: h.network, Privileged: h.privileged, Unconfined: h.selinux,
		Mounts: []container.Mount{{Source: h.out, Target: outTarget}},
		Args:   []string{t.profile.Name, "--arch", b.Arch},
	}

	if h.privileged {
		s.Mounts = append(s.Mounts, container.Mount{Source: "/dev", Target: "/dev"})
	}

	if h.epoch != 0 {
		s.Env = []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(h.epoch, 10), "DETERMINISTIC_SEED=1"}
	}

	if h.registryAuth != "" {
		s.Mounts = append(s.Mounts, container.Mount{Source: h.registryAuth, Target: authTarget + "/config.json", ReadOnly: true})
		s.Env = append(s.Env, "DOCKER_CONFIG="+authTarget)
	}

	if b.document != nil {
		b.document.run(&s, inputs, h, b.SecureBoot)

		return s
	}

	if b.Platform != "" {
		s.Args = append(s.Args, "--platform", b.Platform)
	}

	if b.OutputKind != "" {
		s.Args = append(s.Args, "--output-kind", b.OutputKind)
	}

	b.images(&s, inputs)
	b.customization(&s)
	b.secureBoot(&s)

	if h.insecure {
		s.Args = append(s.Args, "--insecure")
	}

	return s
}

func (b Build) images(s *container.Spec, inputs []Input) {
	for _, in := range inputs {
		switch in.Role {
		case RoleImager:
			s.Image = in.byDigest()
		case RoleBaseInstaller:
			s.Args = append(s.Args, "--base-installer-image", in.Pinned())
		case RoleExtension:
			s.Args = append(s.Args, "--system-extension-image", in.Pinned())
		case RoleOverlay:
			s.Args = append(s.Args, "--overlay-image", in.Pinned(), "--overlay-name", b.Overlay.Name)
		case RoleImageCache:
			s.Args = append(s.Args, "--image-cache", in.Pinned())
		}
	}

	if b.cacheIsLocal() {
		s.Mounts = append(s.Mounts, container.Mount{Source: absolute(b.ImageCache), Target: cacheTarget, ReadOnly: true})
		s.Args = append(s.Args, "--image-cache", cacheTarget)
	}
}

func (b Build) customization(s *container.Spec) {
	if b.Overlay != nil {
		for i, key := range slices.Sorted(maps.Keys(b.Overlay.Options)) {
			value := b.Overlay.Options[key]

			if file, ok := strings.CutPrefix(value, "@"); ok {
				inside := fmt.Sprintf("/overlay-options/%d", i)
				s.Mounts = append(s.Mounts, container.Mount{Source: absolute(file), Target: inside, ReadOnly: true})
				value = "@" + inside
			}

			s.Args = append(s.Args, "--overlay-option", key+"="+value)
		}
	}

	for _, a := range b.KernelArgs {
		s.Args = append(s.Args, "--extra-kernel-arg", a)
	}

	for _, m := range b.Meta {
		s.Args = append(s.Args, "--meta", m)
	}

	if b.Embedded != "" {
		s.Mounts = append(s.Mounts, container.Mount{Source: absolute(b.Embedded), Target: embeddedTarget, ReadOnly: true})
		s.Args = append(s.Args, "--embedded-config-path", embeddedTarget)
	}
}

// absolute is needed because an engine takes a relative source as a volume's name.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}

	return path
}
