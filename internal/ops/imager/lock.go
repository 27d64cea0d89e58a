package imager

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/lists"
)

// Lock pins everything that goes into a build, so that the same build file makes the same bytes. It is the lock file
// (`--lock`).
type Lock struct {
	Version         string       `json:"version" yaml:"version"`                     // The file's format, talosmate/v1.
	Kind            string       `json:"kind" yaml:"kind"`                           // Always ImagerLock.
	BuildSHA256     string       `json:"build_sha256" yaml:"build_sha256"`           // The requested build, without the paths of this machine.
	SourceDateEpoch int64        `json:"source_date_epoch" yaml:"source_date_epoch"` // The time stamp of the build's results, in seconds since 1970.
	Images          []Input      `json:"images" yaml:"images"`                       // Every image by digest.
	Files           []LockedFile `json:"files,omitempty" yaml:"files,omitempty"`     // Every local file that is an input.
}

// LockedFile is a local file that is an input of a build.
type LockedFile struct {
	Role   string `json:"role" yaml:"role"`     // embedded-config or signing-certificate.
	SHA256 string `json:"sha256" yaml:"sha256"` // The SHA-256 of its content.
}

// Change is one difference between a lock and a new resolution.
type Change struct {
	Subject string `json:"subject"` // What changed: build, or the role and name of an image or file.
	Locked  string `json:"locked"`  // The value in the lock, empty for a new input.
	Now     string `json:"now"`     // The present value, empty for a removed input.
}

func newLock(b Build, inputs []Input, epoch int64) (Lock, error) {
	l := Lock{Version: FileVersion, Kind: LockFileKind, SourceDateEpoch: epoch, Images: inputs}

	sum, err := b.fingerprint()
	if err != nil {
		return l, err
	}

	l.BuildSHA256 = sum
	l.Files, err = b.lockedFiles()

	for _, in := range inputs {
		if in.Digest == "" {
			return l, errs.New(errs.Unreachable, "cannot lock %s: no registry has its digest", in.Reference)
		}
	}

	return l, err
}

// fingerprint identifies a requested build. The location of files on this machine is not part of it.
func (b Build) fingerprint() (string, error) {
	b.Embedded = ""

	if b.SecureBoot != nil {
		portable := b.SecureBoot.portable()
		b.SecureBoot = &portable
	}

	if b.cacheIsLocal() {
		b.ImageCache = "local"
	}

	text, err := marshal(b)
	if err != nil {
		return "", err
	}

	if b.document != nil {
		text = append(text, b.document.text...)
	}

	sum := sha256.Sum256(text)

	return hex.EncodeToString(sum[:]), nil
}

func (b Build) lockedFiles() ([]LockedFile, error) {
	paths := map[string]string{"embedded-config": b.Embedded}
	if b.SecureBoot != nil && b.SecureBoot.Keys != "" && b.SecureBoot.SignerAddress == "" && b.document == nil {
		paths["signing-certificate"] = filepath.Join(b.SecureBoot.Keys, signingCertificate)
	}

	var out []LockedFile

	for _, role := range []string{"embedded-config", "signing-certificate"} {
		if paths[role] == "" {
			continue
		}

		sum, _, err := hashFile(paths[role])
		if err != nil {
			return nil, err
		}

		out = append(out, LockedFile{Role: role, SHA256: sum})
	}

	return out, nil
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path) //nolint:gosec // G304: an asset in the folder that the user names; its name is one of those that we asked for
	if err != nil {
		return "", 0, err
	}

	defer f.Close() //nolint:errcheck // it was only read

	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("cannot read %s: %w", path, err)
	}

	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// readLock reads a lock file; ok is false where there is none yet.
func readLock(file string) (l Lock, ok bool, err error) {
	data, err := fsutil.ReadFile(file, fsutil.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return l, false, nil
	}

	if err != nil {
		return l, false, errs.Usagef("cannot read the lock file: %w", err)
	}

	if err = strict(data, &l); err != nil {
		return l, false, errs.Usagef("cannot read the lock file %s: %w", file, err)
	}

	if l.Version != FileVersion || l.Kind != LockFileKind {
		return l, false, errs.Usagef("%s is not a lock file: version is %q and kind %q", file, l.Version, l.Kind)
	}

	for _, in := range l.Images {
		if in.Digest == "" {
			return l, false, errs.Usagef("the lock file %s has no digest for %s", file, in.Reference)
		}
	}

	return l, true, nil
}

func (l Lock) write(path string) error {
	body, err := marshal(l)
	if err != nil {
		return err
	}

	if err = fsutil.WriteBytes(path, 0o644, append([]byte("# Written by `talosmate imager build --lock`. Commit it beside the build file.\n"), body...)); err != nil {
		return fmt.Errorf("cannot write the lock file: %w", err)
	}

	return nil
}

// belongs checks whether the images of a lock are those of a build, as far as possible without asking a registry: a
// short name is an image of the build's own registry.
func (l Lock) belongs(b Build, t target) error {
	want := []wanted{{RoleImager, b.Registry + "/imager:" + b.TalosVersion}}

	if t.profile.Kind == KindInstaller && !b.document.hasInstaller() {
		want = append(want, wanted{RoleBaseInstaller, cmp.Or(b.Installer, b.Registry+"/installer-base:"+b.TalosVersion)})
	}

	for _, e := range b.Extensions {
		want = append(want, wanted{RoleExtension, e})
	}

	if b.Overlay != nil {
		want = append(want, wanted{RoleOverlay, cmp.Or(b.Overlay.Image, b.Overlay.Name)})
	}

	if b.ImageCache != "" && !b.cacheIsLocal() {
		want = append(want, wanted{RoleImageCache, b.ImageCache})
	}

	if len(want) != len(l.Images) {
		return fmt.Errorf("it has %d images, the build has %d", len(l.Images), len(want))
	}

	for i, in := range l.Images {
		if !want[i].fits(in, b.Registry) {
			return fmt.Errorf("its %s %s is not part of the build: %s", in.Role, in.Pinned(), want[i].reference)
		}

		if _, err := v1.NewHash(in.Digest); err != nil {
			return fmt.Errorf("the digest of its %s: %w", subject(in), err)
		}
	}

	return nil
}

// wanted is an image of a build: a reference, or a name in the release's catalogue.
type wanted struct{ role, reference string }

func (w wanted) fits(in Input, base string) bool {
	wanted, image := imageref.Split(w.reference), imageref.Split(in.Reference)

	if in.Role != w.role || wanted.Digest != "" && in.Digest != wanted.Digest {
		return false
	}

	if in.Reference == w.reference {
		return true
	}

	switch {
	case image.Digest != "" || !strings.HasPrefix(image.Repository, base+"/") || wanted.Tag != "" && wanted.Tag != image.Tag:
		return false
	case w.role == RoleOverlay:
		return in.Name == wanted.Repository
	default:
		return w.role == RoleExtension && matches(Extension{Name: path.Base(image.Repository), Image: in.Reference}, base, wanted.Repository)
	}
}

// mismatch names the difference between a lock and a build without asking any registry.
func (l Lock) mismatch(b Build) ([]Change, error) {
	now, err := newLock(b, l.Images, l.SourceDateEpoch)
	if err != nil {
		return nil, err
	}

	return l.compare(now), nil
}

// compare lists the differences between a lock and another, in the order of the inputs of a build.
func (l Lock) compare(now Lock) []Change {
	out := []Change{}

	if l.BuildSHA256 != now.BuildSHA256 {
		out = append(out, Change{Subject: "build", Locked: l.BuildSHA256, Now: now.BuildSHA256})
	}

	images := func(l Lock) map[string]string {
		m := map[string]string{}
		for _, in := range l.Images {
			m[subject(in)] = in.Pinned()
		}

		return m
	}

	files := func(l Lock) map[string]string {
		m := map[string]string{}
		for _, f := range l.Files {
			m[f.Role] = "sha256:" + f.SHA256
		}

		return m
	}

	subjects := lists.Map(slices.Concat(l.Images, now.Images), subject)
	roles := lists.Map(slices.Concat(l.Files, now.Files), func(f LockedFile) string { return f.Role })

	out = append(out, differences(subjects, images(l), images(now))...) // never nil: that would be no check

	return append(out, differences(roles, files(l), files(now))...)
}

func subject(in Input) string {
	if in.Role == in.Name {
		return in.Role
	}

	return in.Role + " " + in.Name
}

func differences(order []string, locked, now map[string]string) []Change {
	var out []Change

	seen := map[string]bool{}

	for _, key := range order {
		if !seen[key] && locked[key] != now[key] {
			out = append(out, Change{Subject: key, Locked: locked[key], Now: now[key]})
		}

		seen[key] = true
	}

	return out
}
