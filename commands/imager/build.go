package imager

import (
	"context"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/imager"
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

func newCmdBuild(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &buildOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "build [PROFILE|-]", Short: "Build an ISO, a disk image or an installer",
		Long: "Build a boot asset with Siderolabs' imager in a container of docker, podman or nerdctl. Extensions and\n" +
			"overlays are named in short and resolved from the release's catalogue to a digest; the container gets\n" +
			"only the privileges that this version and profile need; files appear under their final names when they\n" +
			"are complete, owned by you.\n\n" +
			"With - the imager's own profile document is read from stdin: its images are resolved and pinned in it, and\n" +
			"files and sockets that it names are there for the imager under the same paths.\n\n" +
			"With -f the build is read from a file, and with --lock every image is pinned by digest in a file beside\n" +
			"it, so that the same build gives the same bytes. --check reports what locking again would change (exit 3).",
		Example: "  talosmate imager build iso --extension qemu-guest-agent --extension iscsi-tools\n" +
			"  talosmate imager build installer --talos-version v1.14.1 --extension zfs --push registry.lan/talos/installer:v1.14.1-zfs\n" +
			"  talosmate imager build -f build.yaml --lock build.lock\n" +
			"  talosmate imager build - < profile.yaml",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addVersionFlag(fs)
			addRegistryFlags(fs)
			o.addFlags(fs)
			fs.Complete("extension", completeExtensions)
			fs.Complete("overlay", completeOverlays)
		},
		Complete: completeProfile,
	}, cmdutil.ResultOf[imager.Result]("ImagerBuild"), func(c *cmdutil.Call) error {
		build, err := o.read(c)
		if err != nil {
			return err
		}

		return o.do(c, f, build)
	})
}

func (o *buildOptions) do(c *cmdutil.Call, f *cmdutil.Factory, build imager.Build) error {
	if (o.check || o.run.UpdateLock) && o.run.Lock == "" {
		return errs.Usagef("--check and --update-lock need the lock file: --lock FILE")
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

	if result.Unresolved {
		c.Warn("a registry cannot be reached: images are named by tag, and none was checked")
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
			err = errs.New(errs.Negative, "the lock file %s is not what locking again would write: %d changes", o.run.Lock, len(result.Changes)).
				WithHint("%s", c.Again("--check=false", "--update-lock"))
		}

		return result, err
	case c.DryRun:
		return b.DryRun(c.Context(), build, o.run)
	default:
		if err := c.Begin(); err != nil {
			return imager.Result{}, err
		}

		return b.Run(c.Context(), build, o.run)
	}
}

func completeProfile(_ context.Context, c *cmdutil.Call, _ []string) []string {
	text, _ := c.Cmd.Flags().GetString("talos-version")

	v, err := imager.ParseVersion(imager.Build{TalosVersion: text}.Complete("").TalosVersion)
	if err != nil {
		return nil
	}

	return lists.Map(imager.Profiles(v), func(p imager.Profile) string { return cmdutil.Described(p.Name, string(p.Kind)) })
}
