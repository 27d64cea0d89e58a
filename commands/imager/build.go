package imager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

type buildOptions struct {
	build  imager.Build
	run    imager.Options
	file   string
	engine string
	check  bool

	overlay    imager.Overlay
	options    []string
	secureBoot imager.SecureBoot
}

func newCmdBuild(f *cmdutil.Factory) *cobra.Command {
	o := &buildOptions{}
	spec := cmdutil.Spec{Kind: cmdutil.Change, Local: true, Schema: "ImagerBuild", Document: output.Single[imager.Result]{}}
	cmd := &cobra.Command{
		Use: "build [PROFILE]", Short: "Build an ISO, a disk image or an installer",
		Long: "Build a boot asset with Siderolabs' imager in a container of docker, podman or nerdctl. Extensions and\n" +
			"overlays are named in short and resolved from the release's catalogue to a digest; the container gets\n" +
			"only the privileges that this version and profile need; files appear under their final names when they\n" +
			"are complete, owned by you.\n\n" +
			"With -f the build is read from a file, and with --lock every image is pinned by digest in a file beside\n" +
			"it, so that the same build gives the same bytes. --check says what locking anew would change (exit 3).",
		Example: "  talosmate imager build iso --extension qemu-guest-agent --extension iscsi-tools\n" +
			"  talosmate imager build installer --talos-version v1.13.9 --extension zfs --push registry.lan/talos/installer:v1.13.9-zfs\n" +
			"  talosmate imager build -f build.yaml --lock build.lock",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeProfile,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			build, err := o.read(c)
			if err != nil {
				return err
			}

			return o.do(c, f, build)
		}),
	}

	f.Declare(cmd, spec)
	addVersionFlag(f, cmd)
	addRegistryFlags(cmd.Flags())
	o.addFlags(cmd.Flags())
	cmdutil.RegisterFlagCompletion(f, cmd, "extension", completeExtensions)
	cmdutil.RegisterFlagCompletion(f, cmd, "overlay", completeOverlays)

	for flag, words := range map[string][]string{
		"engine": append(container.Names(), container.Auto), "arch": {"amd64", "arm64"},
		"privileged": {imager.PrivilegedAuto, imager.PrivilegedAlways, imager.PrivilegedNever},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	}

	return cmd
}

func (o *buildOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&o.file, "file", "f", "", "build `file`, - for stdin")
	flags.StringVar(&o.run.Lock, "lock", "", "lock `file` with every image by digest; written where it does not exist")
	flags.BoolVar(&o.run.UpdateLock, "update-lock", false, "resolve anew and replace the lock file")
	flags.BoolVar(&o.check, "check", false, "say what locking anew would change, and build nothing; exit 3 when something would")
	flags.StringVar(&o.run.OutputDir, "output-dir", "_out", "`directory` for the results")
	flags.StringVar(&o.engine, "engine", container.Auto, "container engine: docker, podman, nerdctl or auto")
	flags.StringVar(&o.run.Privileged, "privileged", imager.PrivilegedAuto, "run the container with all privileges: auto (where needed), always or never")
	flags.StringVar(&o.run.Network, "network", "", "`network` of the container, as the engine names it")
	flags.StringVar(&o.run.RegistryAuth, "registry-auth", "", "docker config `file` with credentials for what the imager pulls by itself")
	flags.DurationVar(&o.run.Timeout, "build-timeout", 30*time.Minute, "how long the whole build may take")
	flags.BoolVar(&o.run.Load, "load", false, "load the installer into the engine")
	flags.StringVar(&o.run.Push, "push", "", "push the installer to this image `reference`")

	b := &o.build
	flags.StringVar(&b.Arch, "arch", "", "architecture, amd64 or arm64 (default: this machine's)")
	flags.StringVar(&b.Platform, "platform", "", "another Talos `platform` than the profile's")
	flags.StringVar(&b.OutputKind, "output-kind", "", "another `kind` of output than the profile's: iso, image, installer, kernel, initramfs, uki or cmdline")
	flags.StringArrayVar(&b.Extensions, "extension", nil, "system `extension`: NAME, NAME:TAG, NAME@DIGEST or an image reference (repeatable)")
	flags.StringArrayVar(&b.KernelArgs, "kernel-arg", nil, "extra kernel `argument` (repeatable)")
	flags.StringArrayVar(&b.Meta, "meta", nil, "META value as `KEY=VALUE` with the key in hexadecimal (repeatable)")
	flags.StringVar(&b.ImageCache, "image-cache", "", "image cache: an image reference, or an OCI layout directory")
	flags.StringVar(&b.Embedded, "embedded-config", "", "machine configuration `file` to embed (Talos 1.12 and newer)")
	flags.StringVar(&o.overlay.Name, "overlay", "", "overlay of a board, by `name`")
	flags.StringVar(&o.overlay.Image, "overlay-image", "", "the overlay's `image` where it is not in the release's catalogue")
	flags.StringArrayVar(&o.options, "overlay-option", nil, "option for the overlay as `KEY=VALUE` or KEY=@FILE (repeatable)")
	flags.StringVar(&o.secureBoot.Keys, "secureboot-keys", "", "`directory` with the signing keys of a secure boot profile")
	flags.BoolVar(&o.secureBoot.IncludeWellKnownCerts, "secureboot-include-well-known-certs", false, "enroll Microsoft's certificates too")
	flags.StringVar(&o.secureBoot.EnrollKeys, "secureboot-enroll-keys", "", "how keys are enrolled at first boot: if-safe, manual, force or off (Talos 1.14 and newer)")
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
	if o.file == "" {
		return o.fromFlags(c)
	}

	if len(c.Args) > 0 {
		return imager.Build{}, errs.Usagef("the profile is in the build file: leave %q away", c.Args[0])
	}

	var wrong []string

	c.Cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(runFlags(), f.Name) {
			wrong = append(wrong, "--"+f.Name)
		}
	})

	if len(wrong) > 0 {
		return imager.Build{}, errs.Usagef("with -f put %s into the build file", strings.Join(wrong, ", "))
	}

	data, dir, err := readInput(c, o.file)
	if err != nil {
		return imager.Build{}, err
	}

	b, err := imager.ParseBuild(data, dir)
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

func (o *buildOptions) fromFlags(c *cmdutil.Call) (imager.Build, error) {
	if len(c.Args) == 0 {
		return imager.Build{}, errs.Usagef("want a PROFILE or a build file (-f)").WithHint("`talosmate imager profiles` lists the profiles")
	}

	b := o.build
	b.Profile = c.Args[0]
	b.TalosVersion, _ = c.Cmd.Flags().GetString("talos-version")
	b.Registry, _ = c.Cmd.Flags().GetString("registry")

	if o.secureBoot != (imager.SecureBoot{}) {
		b.SecureBoot = &o.secureBoot
	}

	for _, option := range o.options {
		key, value, ok := strings.Cut(option, "=")
		if !ok || key == "" {
			return b, errs.Usagef("overlay option %q is not KEY=VALUE", option)
		}

		if o.overlay.Options == nil {
			o.overlay.Options = map[string]string{}
		}

		o.overlay.Options[key] = value
	}

	if o.overlay.Name != "" {
		b.Overlay = &o.overlay
	} else if o.overlay.Image != "" || len(o.options) > 0 {
		return b, errs.Usagef("name the overlay with --overlay")
	}

	return b.Complete(runtime.GOARCH), nil
}

func readInput(c *cmdutil.Call, path string) (data []byte, dir string, err error) {
	if path == "-" {
		data, err = io.ReadAll(c.IO.In)
		dir = "."
	} else {
		data, err = os.ReadFile(path)
		dir = filepath.Dir(path)
	}

	if err != nil {
		return nil, "", errs.Usagef("cannot read the build file: %w", err)
	}

	return data, dir, nil
}

func (o *buildOptions) do(c *cmdutil.Call, f *cmdutil.Factory, build imager.Build) error {
	if (o.check || o.run.UpdateLock) && o.run.Lock == "" {
		return errs.Usagef("--check and --update-lock need the lock file: --lock FILE")
	}

	if words := []string{imager.PrivilegedAuto, imager.PrivilegedAlways, imager.PrivilegedNever}; !slices.Contains(words, o.run.Privileged) {
		return errs.Usagef("unknown --privileged %q, want one of %s", o.run.Privileged, strings.Join(words, ", "))
	}

	if all := append(container.Names(), container.Auto); !slices.Contains(all, o.engine) {
		return errs.Usagef("unknown container engine %q, want one of %s", o.engine, strings.Join(all, ", "))
	}

	r, err := registryOf(c)
	if err != nil {
		return err
	}

	defer r.Close()

	plain, _ := c.Cmd.Flags().GetStringSlice("plain-http")
	host, _, _ := strings.Cut(build.Registry, "/")
	o.run.Insecure = slices.Contains(plain, host)

	b := &imager.Builder{
		Registry: r, Sink: c.Progress(), Now: f.Now, Caller: func() (int, int) { return imager.Caller(c.IO.Env) },
		Engine: func(ctx context.Context) (*container.Engine, error) { return container.Find(ctx, o.engine, c.IO.Env) },
		Guess:  func() *container.Engine { return container.Guess(o.engine, c.IO.Env) },
	}

	result, err := o.carryOut(c, b, build)
	if err != nil && (result.Command == nil || errs.ExitCode(err) == errs.Usage) {
		return err
	}

	return cmdutil.PrintResult(c, result, err, productNames(result), showBuild)
}

func (o *buildOptions) carryOut(c *cmdutil.Call, b *imager.Builder, build imager.Build) (imager.Result, error) {
	switch {
	case o.check:
		result, err := b.DryRun(c.Context(), build, imager.Options{OutputDir: o.run.OutputDir})
		if err != nil {
			return imager.Result{}, err
		}

		result.LockFile = o.run.Lock

		if result.Changes, err = b.Check(c.Context(), build, o.run.Lock); err != nil {
			return imager.Result{}, err
		}

		if len(result.Changes) > 0 {
			err = errs.New(errs.Negative, "the lock file %s is not what locking anew would write: %d changes", o.run.Lock, len(result.Changes)).
				WithHint("--update-lock takes the changes in")
		}

		return result, err
	case c.DryRun:
		return b.DryRun(c.Context(), build, o.run)
	default:
		c.BeginChange()

		return b.Run(c.Context(), build, o.run)
	}
}

func completeProfile(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	text, _ := cmd.Flags().GetString("talos-version")

	v, err := imager.ParseVersion(imager.Build{TalosVersion: text}.Complete("").TalosVersion)
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var out []string
	for _, p := range imager.Profiles(v) {
		out = append(out, cobra.CompletionWithDesc(p.Name, string(p.Kind)))
	}

	return out, cobra.ShellCompDirectiveNoFileComp
}

func productNames(r imager.Result) string {
	names := make([]string, len(r.Files))
	for i, f := range r.Files {
		names[i] = f.Path
	}

	return strings.Join(names, "\n")
}

func showBuild(w io.Writer, r imager.Result) error {
	if r.Changes != nil {
		return showChanges(w, r.Changes)
	}

	if r.DryRun {
		_, err := fmt.Fprintln(w, shellLine(r.Command))

		return err
	}

	if err := output.WriteTable(w, []output.Column[imager.Product]{
		{Header: "FILE", Value: func(p imager.Product) string { return p.Path }},
		{Header: "SIZE", Value: func(p imager.Product) string { return output.Bytes(p.SizeBytes) }},
		{Header: "SHA256", Value: func(p imager.Product) string { return p.SHA256 }},
	}, r.Files, false, true); err != nil {
		return err
	}

	var err error

	if r.Loaded != "" {
		_, err = fmt.Fprintf(w, "loaded as %s\n", r.Loaded)
	}

	if r.Pushed != nil {
		_, pushErr := fmt.Fprintf(w, "pushed %s\n", r.Pushed.Pinned)
		err = errors.Join(err, pushErr)
	}

	return err
}

func showChanges(w io.Writer, changes []imager.Change) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing would change")

		return err
	}

	return output.WriteTable(w, []output.Column[imager.Change]{
		{Header: "WHAT", Value: func(c imager.Change) string { return c.Subject }},
		{Header: "LOCKED", Value: func(c imager.Change) string { return c.Locked }},
		{Header: "NOW", Value: func(c imager.Change) string { return c.Now }},
	}, changes, false, true)
}

// shellLine writes a command so that a shell reads it back as it is.
func shellLine(argv []string) string {
	out := make([]string, len(argv))

	for i, a := range argv {
		out[i] = a
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return !strings.ContainsRune("@%+=:,./-_", r) && !isWord(r) }) {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}

	return strings.Join(out, " ")
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
