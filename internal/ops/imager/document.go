package imager

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// Stdin is the name of the profile that the imager reads on stdin.
const Stdin = "-"

// document is a profile as the imager reads it on stdin (pkg/imager/profile/profile.go of Talos v1.14.0-rc.1). Fields
// that this program does not need are passed on unchanged, every image by digest.
type document struct {
	text  string
	facts profileFacts
}

// profileFacts are the fields of a profile that the build needs: the kind of output and the inputs.
type profileFacts struct {
	Base       string `yaml:"baseProfileName"`
	Arch       string `yaml:"arch"`
	Platform   string `yaml:"platform"`
	SecureBoot *bool  `yaml:"secureboot"`
	Version    string `yaml:"version"`

	Customization struct {
		KernelArgs []string `yaml:"extraKernelArgs"`
		Meta       []struct {
			Key   int    `yaml:"key"`
			Value string `yaml:"value"`
		} `yaml:"metaContents"`
		Embedded string `yaml:"embeddedMachineConfiguration"`
	} `yaml:"customization"`

	Input struct {
		Kernel           fileAsset        `yaml:"kernel"`
		Initramfs        fileAsset        `yaml:"initramfs"`
		SDStub           fileAsset        `yaml:"sdStub"`
		SDBoot           fileAsset        `yaml:"sdBoot"`
		BaseInstaller    imageAsset       `yaml:"baseInstaller"`
		ImageCache       imageAsset       `yaml:"imageCache"`
		OverlayInstaller imageAsset       `yaml:"overlayInstaller"`
		Extensions       []imageAsset     `yaml:"systemExtensions"`
		SecureBoot       secureBootAssets `yaml:"secureboot"`
	} `yaml:"input"`

	Overlay *struct {
		Name  string     `yaml:"name"`
		Image imageAsset `yaml:"image"`
	} `yaml:"overlay"`

	Output struct {
		Kind         string `yaml:"kind"`
		OutFormat    string `yaml:"outFormat"`
		ImageOptions struct {
			DiskFormat string `yaml:"diskFormat"`
		} `yaml:"imageOptions"`
	} `yaml:"output"`
}

type fileAsset struct {
	Path string `yaml:"path"`
}

type imageAsset struct {
	Ref     string `yaml:"imageRef"`
	Tarball string `yaml:"tarballPath"`
	OCI     string `yaml:"ociPath"`
}

// local reports whether the image is a file or directory of this machine, which takes precedence over a reference.
func (a imageAsset) local() bool { return a.Tarball != "" || a.OCI != "" }

type secureBootAssets struct {
	Signer             signingKey `yaml:"secureBootSigner"`
	PCRSigner          signingKey `yaml:"pcrSigner"`
	PlatformKeyPath    string     `yaml:"platformKeyPath"`
	KeyExchangeKeyPath string     `yaml:"keyExchangeKeyPath"`
	SignatureKeyPath   string     `yaml:"signatureKeyPath"`
}

// signingKey is a key in a file, at a service on a socket, or in a cloud's vault.
type signingKey struct {
	KeyPath       string         `yaml:"keyPath"`
	CertPath      string         `yaml:"certPath"`
	AwsCertPath   string         `yaml:"awsCertPath"`
	SignerAddress string         `yaml:"signerAddress"`
	Vault         map[string]any `yaml:",inline"`
}

// unset reports whether the imager takes the key from the key directory because the profile names none.
func (k signingKey) unset() bool {
	return k.KeyPath == "" && k.CertPath == "" && k.AwsCertPath == "" && k.SignerAddress == "" && len(k.Vault) == 0
}

// ParseDocument reads one of the imager's own profile documents. The Talos version is the given one, else the
// document's, else the newest that this program knows.
func ParseDocument(data []byte, version string) (Build, error) {
	d := &document{text: string(data)}

	if err := foreign.YAML(data, &d.facts); err != nil {
		return Build{}, errs.Usagef("cannot read the imager profile: %w", err)
	}

	f := &d.facts
	if f.Base == "" && f.Output.Kind == "" {
		return Build{}, errs.Usagef("not an imager profile: it has neither baseProfileName nor output.kind").
			WithHint("a build file of this program is read with -f")
	}

	b := Build{
		Profile: Stdin, TalosVersion: version, Arch: f.Arch, Platform: f.Platform, OutputKind: f.Output.Kind,
		KernelArgs: f.Customization.KernelArgs, document: d,
	}

	if version == "" {
		b.TalosVersion = f.Version
	} else if strings.TrimPrefix(f.Version, "v") != strings.TrimPrefix(version, "v") && f.Version != "" {
		return b, errs.Usagef("the imager profile is for Talos %s, not %s", f.Version, version)
	}

	if f.Platform == "" && f.Base == "" {
		return b, errs.Usagef("the imager profile names neither a platform nor a base profile")
	}

	if f.Arch == "" {
		return b, errs.Usagef("the imager profile names no architecture").WithHint("write `arch: amd64` or `arch: arm64`")
	}

	for _, m := range f.Customization.Meta {
		b.Meta = append(b.Meta, strconv.Itoa(m.Key)+"="+m.Value)
	}

	return b, d.images(&b)
}

// images inserts the images that a profile names into the build.
func (d *document) images(b *Build) error {
	f := &d.facts

	for _, e := range f.Input.Extensions {
		if !e.local() {
			b.Extensions = append(b.Extensions, e.Ref)
		}
	}

	if !f.Input.BaseInstaller.local() {
		b.Installer = f.Input.BaseInstaller.Ref
	}

	if !f.Input.ImageCache.local() {
		b.ImageCache = f.Input.ImageCache.Ref
	}

	if f.Overlay != nil && !f.Overlay.Image.local() {
		b.Overlay = &Overlay{Name: cmp.Or(f.Overlay.Name, "default"), Image: f.Overlay.Image.Ref}
	}

	if other := f.Input.OverlayInstaller.Ref; other != "" && (b.Overlay == nil || other != b.Overlay.Image) {
		return errs.Usagef("the imager profile names two overlay images: input.overlayInstaller is not overlay.image")
	}

	return nil
}

// hasInstaller reports whether the base installer is a file of this machine.
func (d *document) hasInstaller() bool { return d != nil && d.facts.Input.BaseInstaller.local() }

// profile is the profile that the document describes, with the values of its base profile as defaults.
func (d *document) profile(v semver.Version) (Profile, error) {
	f := &d.facts
	p := Profile{Name: Stdin}

	if f.Base != "" {
		base, err := FindProfile(v, f.Base)
		if err != nil {
			return base, err
		}

		p = base
		p.Name = Stdin
	}

	if f.SecureBoot != nil {
		p.SecureBoot = *f.SecureBoot
	}

	if f.Output.ImageOptions.DiskFormat != "" {
		p.Format = f.Output.ImageOptions.DiskFormat
		if f.Output.OutFormat != "raw" {
			p.Format += f.Output.OutFormat
		}
	}

	if f.Customization.Embedded != "" && !atLeast(v, "v1.12.0") {
		return p, errs.Usagef("Talos v%s cannot embed a machine configuration: v1.12.0 is the first", v)
	}

	return p, nil
}

func (d *document) checkSecureBoot(t target, given *SecureBoot) error {
	if given != nil && !t.profile.SecureBoot {
		return errs.Usagef("the imager profile is not for secure boot").WithHint("write `secureboot: true`, or remove the signing keys")
	}

	in := &d.facts.Input.SecureBoot
	keys := SecureBoot{SignerAddress: in.Signer.SignerAddress, PCRSignerAddress: in.PCRSigner.SignerAddress}
	if given != nil {
		keys.Keys = given.Keys
	}

	fromDirectory := in.Signer.unset() || in.PCRSigner.unset() || slices.ContainsFunc(d.secureBootPaths(), inKeyDirectory)

	if t.profile.SecureBoot && fromDirectory && keys.Keys == "" {
		return errs.Usagef("the imager profile needs signing keys").
			WithHint("make them with `talosctl gen secureboot` and name their directory with --secureboot-keys")
	}

	if !in.Signer.unset() || !in.PCRSigner.unset() {
		keys.Keys = "" // the profile decides which files are needed
	}

	if err := keys.check(t); err != nil {
		return err
	}

	for _, path := range d.paths() {
		if _, err := os.Stat(path); err != nil {
			return errs.Usagef("cannot read %s, which the imager profile names: %w", path, cause(err))
		}
	}

	return nil
}

// cause is the cause of a path error, without the path.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}

	return err
}

func (d *document) secureBootPaths() []string {
	in := &d.facts.Input.SecureBoot

	return []string{
		in.Signer.KeyPath, in.Signer.CertPath, in.Signer.AwsCertPath, in.PCRSigner.KeyPath,
		in.PlatformKeyPath, in.KeyExchangeKeyPath, in.SignatureKeyPath,
	}
}

func inKeyDirectory(path string) bool { return strings.HasPrefix(path, secureBootTarget+"/") }

// paths are the files of this machine that a profile names. They have the same path in the imager's container, which
// already has the image's own files (/usr/install) and the key directory.
func (d *document) paths() []string {
	in := &d.facts.Input
	all := append(d.secureBootPaths(), in.Kernel.Path, in.Initramfs.Path, in.SDStub.Path, in.SDBoot.Path)

	images := append(slices.Clone(in.Extensions), in.BaseInstaller, in.ImageCache, in.OverlayInstaller)
	if d.facts.Overlay != nil {
		images = append(images, d.facts.Overlay.Image)
	}

	for _, image := range images {
		all = append(all, image.Tarball, image.OCI)
	}

	for _, address := range []string{in.SecureBoot.Signer.SignerAddress, in.SecureBoot.PCRSigner.SignerAddress} {
		all = append(all, strings.TrimPrefix(address, unixScheme))
	}

	all = slices.DeleteFunc(all, func(path string) bool {
		return path == "" || inKeyDirectory(path) || strings.HasPrefix(path, "/usr/install/")
	})

	slices.Sort(all)

	return slices.Compact(all)
}

// run passes the document on stdin to the container, and mounts the files that it names.
func (d *document) run(s *container.Spec, inputs []Input, h host, keys *SecureBoot) {
	s.Args = []string{Stdin}
	s.Stdin = strings.NewReader(d.pinned(inputs, h.insecure))

	for _, in := range inputs {
		if in.Role == RoleImager {
			s.Image = in.byDigest()
		}
	}

	if keys != nil && keys.Keys != "" {
		s.Mounts = append(s.Mounts, container.Mount{Source: absolute(keys.Keys), Target: secureBootTarget, ReadOnly: true})
	}

	for _, path := range d.paths() {
		s.Mounts = append(s.Mounts, container.Mount{Source: absolute(path), Target: filepath.Clean(path), ReadOnly: true})
	}
}
