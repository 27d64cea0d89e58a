package imager

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
)

// SecureBoot configures the signing of a secure boot profile: with keys in files, or by a service that listens on a
// Unix socket of this machine and keeps its key (api/signer/signer.proto of Talos v1.14.0-rc.1).
type SecureBoot struct {
	Keys                  string `json:"keys,omitempty" yaml:"keys,omitempty"`                                         // The directory with the signing keys, as `talosctl gen secureboot` makes it.
	SignerAddress         string `json:"signer_address,omitempty" yaml:"signer_address,omitempty"`                     // The unix:// address of the service that signs boot files, instead of the key. From 1.14.
	PCRSignerAddress      string `json:"pcr_signer_address,omitempty" yaml:"pcr_signer_address,omitempty"`             // The unix:// address of the service that signs the PCR measurements, instead of the key. From 1.14.
	IncludeWellKnownCerts bool   `json:"include_well_known_certs,omitempty" yaml:"include_well_known_certs,omitempty"` // Enroll Microsoft's certificates too.
	EnrollKeys            string `json:"enroll_keys,omitempty" yaml:"enroll_keys,omitempty"`                           // How keys are enrolled at first boot: if-safe, manual, force or off. From 1.14.
}

// Sockets of signers in the imager's container.
const (
	signerTarget    = "/signer/secureboot.sock"
	pcrSignerTarget = "/signer/pcr.sock"
)

const unixScheme = "unix://"

// keyFiles are the files that must be in the key directory: those that no service replaces.
func (s SecureBoot) keyFiles() []string {
	var out []string

	if s.SignerAddress == "" {
		out = append(out, "uki-signing-key.pem", signingCertificate)
	}

	if s.PCRSignerAddress == "" {
		out = append(out, "pcr-signing-key.pem")
	}

	return out
}

const signingCertificate = "uki-signing-cert.pem"

func (s SecureBoot) signers() []string {
	return slices.DeleteFunc([]string{s.SignerAddress, s.PCRSignerAddress}, func(a string) bool { return a == "" })
}

// portable removes the paths of this machine, and keeps who signs.
func (s SecureBoot) portable() SecureBoot {
	s.Keys = ""

	for _, address := range []*string{&s.SignerAddress, &s.PCRSignerAddress} {
		if *address != "" {
			*address = unixScheme
		}
	}

	return s
}

func (b Build) checkSecureBoot(t target) error {
	if b.document != nil {
		return b.document.checkSecureBoot(t, b.SecureBoot)
	}

	switch {
	case b.SecureBoot == nil && !t.profile.SecureBoot:
		return nil
	case !t.profile.SecureBoot:
		return errs.Usagef("profile %s is not a secure boot profile", t.profile.Name).WithHint("secure boot is a profile: secureboot-%s", t.profile.Name)
	case b.SecureBoot == nil, b.SecureBoot.Keys == "" && len(b.SecureBoot.keyFiles()) > 0:
		return errs.Usagef("profile %s needs signing keys", t.profile.Name).
			WithHint("make them with `talosctl gen secureboot` and name their directory with --secureboot-keys")
	}

	return b.SecureBoot.check(t)
}

// check validates the keys, signers and options for a version.
func (s SecureBoot) check(t target) error {
	if (s.EnrollKeys != "" || len(s.signers()) > 0) && !atLeast(t.version, "v1.14.0") {
		return errs.Usagef("the imager of Talos v%s can neither choose how keys are enrolled nor use a signer: v1.14.0 is the first", t.version)
	}

	if words := []string{"", "if-safe", "manual", "force", "off"}; !slices.Contains(words, s.EnrollKeys) {
		return errs.Usagef("unknown key enrolment %q, want one of %s", s.EnrollKeys, strings.Join(words[1:], ", "))
	}

	for _, address := range s.signers() {
		if _, err := socketOf(address); err != nil {
			return err
		}
	}

	if s.Keys == "" {
		return nil
	}

	for _, name := range s.keyFiles() {
		if _, err := os.Stat(filepath.Join(s.Keys, name)); err != nil {
			return errs.Usagef("there is no %s in %s", name, s.Keys).WithHint("`talosctl gen secureboot` makes it")
		}
	}

	return nil
}

// socketOf is the path of the socket in a signer's address.
func socketOf(address string) (string, error) {
	path, ok := strings.CutPrefix(address, unixScheme)
	if !ok || !filepath.IsAbs(path) {
		return "", errs.Usagef("signer address %q is not unix:// and an absolute path", address).
			WithHint("a signer on another machine is reached through a socket here, for example with `ssh -L`")
	}

	if info, err := os.Stat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return "", errs.Usagef("the signer's socket %s has no listener", path).WithHint("start the signer first")
	}

	return path, nil
}

// secureBoot gives the container the keys, or the sockets of the signers.
func (b Build) secureBoot(s *container.Spec) {
	if b.SecureBoot == nil {
		return
	}

	if b.SecureBoot.Keys != "" {
		s.Mounts = append(s.Mounts, container.Mount{Source: absolute(b.SecureBoot.Keys), Target: secureBootTarget, ReadOnly: true})
	}

	for _, signer := range []struct{ flag, address, target string }{
		{"--secureboot-signer-address", b.SecureBoot.SignerAddress, signerTarget},
		{"--pcr-signer-address", b.SecureBoot.PCRSignerAddress, pcrSignerTarget},
	} {
		if path, ok := strings.CutPrefix(signer.address, unixScheme); ok {
			s.Mounts = append(s.Mounts, container.Mount{Source: path, Target: signer.target, ReadOnly: true})
			s.Args = append(s.Args, signer.flag, unixScheme+signer.target)
		}
	}

	if b.SecureBoot.IncludeWellKnownCerts {
		s.Args = append(s.Args, "--secureboot-include-well-known-certs")
	}

	if b.SecureBoot.EnrollKeys != "" {
		s.Args = append(s.Args, "--secureboot-enroll-keys", b.SecureBoot.EnrollKeys)
	}
}
