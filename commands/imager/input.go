package imager

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/imager"
)

func (o *buildOptions) addFlags(fs *cmdutil.Flags) {
	fs.StringVarP(&o.file, "file", "f", "", "build `file`, - for stdin")
	fs.StringVar(&o.run.Lock, "lock", "", "lock `file` with every image by digest; written where it does not exist")
	fs.BoolVar(&o.run.UpdateLock, "update-lock", false, "resolve again and replace the lock file")
	fs.BoolVar(&o.check, "check", false, "report what locking again would change, and build nothing; exit 3 when something would")
	fs.StringVar(&o.run.OutputDir, "output-dir", "_out", "`directory` for the results")
	fs.Choice(&o.engine, "engine", container.Auto, "container engine", append(container.Names(), container.Auto)...)
	fs.Choice(&o.run.Privileged, "privileged", imager.PrivilegedAuto, "run the container with all privileges (auto: where needed)",
		imager.PrivilegedAuto, imager.PrivilegedAlways, imager.PrivilegedNever)
	fs.StringVar(&o.run.Network, "network", "", "`network` of the container, as the engine names it")
	fs.StringVar(&o.run.RegistryAuth, "registry-auth", "", "docker config `file` with credentials for what the imager itself pulls")
	fs.Positive(&o.run.Timeout, "build-timeout", 30*time.Minute, "how long the whole build may take")
	fs.BoolVar(&o.run.Load, "load", false, "load the installer into the engine")
	fs.StringVar(&o.run.Push, "push", "", "push the installer to this image `reference`")

	b := &o.build
	fs.Choice(&b.Arch, "arch", "", "architecture (default: this machine's)", "amd64", "arm64")
	fs.StringVar(&b.Platform, "platform", "", "another Talos `platform` than the profile's")
	fs.StringVar(&b.OutputKind, "output-kind", "", "another `kind` of output than the profile's: iso, image, installer, kernel, initramfs, uki or cmdline")
	fs.StringArrayVar(&b.Extensions, "extension", nil, "system `extension`: NAME, NAME:TAG, NAME@DIGEST or an image reference (repeatable)")
	fs.StringArrayVar(&b.KernelArgs, "kernel-arg", nil, "extra kernel `argument` (repeatable)")
	fs.StringArrayVar(&b.Meta, "meta", nil, "META value as `KEY=VALUE` with the key in hexadecimal (repeatable)")
	fs.StringVar(&b.Installer, "base-installer", "", "another base installer `image` than the release's, for installers")
	fs.StringVar(&b.ImageCache, "image-cache", "", "image cache: an image reference, or an OCI layout directory")
	fs.StringVar(&b.Embedded, "embedded-config", "", "machine configuration `file` to embed (Talos 1.12 and newer)")
	fs.StringVar(&o.overlay.Name, "overlay", "", "overlay of a board, by `name`")
	fs.StringVar(&o.overlay.Image, "overlay-image", "", "the overlay's `image` where it is not in the release's catalogue")
	fs.StringArrayVar(&o.options, "overlay-option", nil, "option for the overlay as `KEY=VALUE` or KEY=@FILE (repeatable)")
	fs.StringVar(&o.secureBoot.Keys, "secureboot-keys", "", "`directory` with the signing keys of a secure boot profile")
	fs.StringVar(&o.secureBoot.SignerAddress, "secureboot-signer-address", "",
		"unix:// `address` of a service that signs what boots, in place of its key (Talos 1.14 and newer)")
	fs.StringVar(&o.secureBoot.PCRSignerAddress, "pcr-signer-address", "",
		"unix:// `address` of a service that signs the PCR measurements, in place of its key (Talos 1.14 and newer)")
	fs.BoolVar(&o.secureBoot.IncludeWellKnownCerts, "secureboot-include-well-known-certs", false, "enroll Microsoft's certificates too")
	fs.StringVar(&o.secureBoot.EnrollKeys, "secureboot-enroll-keys", "", "how keys are enrolled at first boot: if-safe, manual, force or off (Talos 1.14 and newer)")
}

// runFlags say how to build; what to build is in the file where there is one.
func runFlags() []string {
	return []string{
		"file", "lock", "update-lock", "check", "output-dir", "engine", "privileged", "network", "registry-auth", "build-timeout",
		"load", "push", "dry-run", "plain-http", "registry-ca", "registry", "talos-version", "arch",
	}
}

// read gives the build as the file or the flags say it. Version, architecture and registry on the command line
// win over the file's, so that one file serves a matrix.
func (o *buildOptions) read(c *cmdutil.Call) (imager.Build, error) {
	switch {
	case o.file == "" && len(c.Args) > 0 && c.Args[0] == imager.Stdin:
		return o.fromDocument(c)
	case o.file == "":
		return o.fromFlags(c)
	}

	if len(c.Args) > 0 {
		return imager.Build{}, errs.Usagef("the profile is in the build file: omit %q", c.Args[0])
	}

	if err := onlyFlags(c, "with -f put %s into the build file", runFlags()); err != nil {
		return imager.Build{}, err
	}

	data, err := c.Input(o.file, "the build")
	if err != nil {
		return imager.Build{}, err
	}

	b, err := imager.ParseBuild(data, filepath.Dir(o.file)) // that of - is the working directory
	if err != nil {
		return b, err
	}

	for flag, field := range map[string]*string{"talos-version": &b.TalosVersion, "registry": &b.Registry, "arch": &b.Arch} {
		if c.Cmd.Flags().Changed(flag) {
			*field, _ = c.Cmd.Flags().GetString(flag)
		}
	}

	return b.Complete(runtime.GOARCH), nil
}

// onlyFlags refuses flags that say what the input says.
func onlyFlags(c *cmdutil.Call, refusal string, allowed []string) error {
	var wrong []string

	c.Cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(allowed, f.Name) {
			wrong = append(wrong, "--"+f.Name)
		}
	})

	if len(wrong) > 0 {
		return errs.Usagef(refusal, strings.Join(wrong, ", "))
	}

	return nil
}

// fromDocument reads the imager's own profile document. The key directory is not in it: the imager finds it
// under a path of its container's.
func (o *buildOptions) fromDocument(c *cmdutil.Call) (imager.Build, error) {
	allowed := slices.DeleteFunc(append(runFlags(), "secureboot-keys"), func(name string) bool { return name == "arch" })
	if err := onlyFlags(c, "with - put %s into the profile document", allowed); err != nil {
		return imager.Build{}, err
	}

	data, err := c.Input(imager.Stdin, "the build")
	if err != nil {
		return imager.Build{}, err
	}

	version, _ := c.Cmd.Flags().GetString("talos-version")

	b, err := imager.ParseDocument(data, version)
	if err != nil {
		return b, err
	}

	if o.secureBoot.Keys != "" {
		b.SecureBoot = &imager.SecureBoot{Keys: o.secureBoot.Keys}
	}

	b.Registry, _ = c.Cmd.Flags().GetString("registry")

	return b.Complete(runtime.GOARCH), nil
}

func (o *buildOptions) fromFlags(c *cmdutil.Call) (imager.Build, error) {
	if len(c.Args) == 0 {
		return imager.Build{}, errs.Usagef("want a PROFILE, - or a build file (-f)").WithHint("talosmate imager profiles")
	}

	b := o.build
	b.Profile = c.Args[0]
	b.TalosVersion, _ = c.Cmd.Flags().GetString("talos-version")
	b.Registry, _ = c.Cmd.Flags().GetString("registry")

	if o.secureBoot != (imager.SecureBoot{}) {
		b.SecureBoot = &o.secureBoot
	}

	var err error
	if o.overlay.Options, err = imager.OverlayOptions(o.options); err != nil {
		return b, err
	}

	if o.overlay.Name != "" {
		b.Overlay = &o.overlay
	} else if o.overlay.Image != "" || len(o.options) > 0 {
		return b, errs.Usagef("name the overlay with --overlay")
	}

	return b.Complete(runtime.GOARCH), nil
}
