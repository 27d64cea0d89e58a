// Package imager holds `talosmate imager`: boot assets built with Siderolabs' imager.
package imager

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/registry"
)

// NewCmd makes the group.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	f.Publish("ImagerBuildFile", imager.Build{})
	f.Publish("ImagerLockFile", imager.Lock{})

	return cmdutil.Group("imager", "Build boot assets: ISOs, disk images and installers", nil,
		newCmdBuild(f), newCmdProfiles(f), newCmdExtensions(f), newCmdOverlays(f))
}

// addRegistryFlags are the flags of every command that asks a registry.
func addRegistryFlags(fs *cmdutil.Flags) {
	fs.String("registry", "", "where the release images are (default: "+imager.OfficialRegistry+"), a mirror of it with the same names")
	fs.StringSlice("plain-http", nil, "registry `host` that may be spoken to without TLS (repeatable); loopback always may")
	fs.String("registry-ca", "", "PEM `file` with the certificate authority of a registry")
}

// registryOf makes the registry client that the flags ask for.
func registryOf(c *cmdutil.Call) (*registry.Client, error) {
	flags := c.Cmd.Flags()
	o := registry.Options{Env: c.IO.Env}

	o.PlainHTTP, _ = flags.GetStringSlice("plain-http")
	o.CAFile, _ = flags.GetString("registry-ca")
	o.Timeout, _ = flags.GetDuration("timeout")

	return registry.New(o)
}

// release is the version and registry that a catalogue is read from.
func release(c *cmdutil.Call) (imager.Build, error) {
	var b imager.Build

	b.TalosVersion, _ = c.Cmd.Flags().GetString("talos-version")
	if flag := c.Cmd.Flags().Lookup("registry"); flag != nil {
		b.Registry = flag.Value.String()
	}

	b = b.Complete("")
	_, err := imager.ParseVersion(b.TalosVersion)

	return b, err
}

// catalog reads one of a release's catalogues: its extensions or its overlays.
func catalog[T any](
	ctx context.Context, c *cmdutil.Call, read func(ctx context.Context, r imager.Registry, base, version string) ([]T, error),
) ([]T, error) {
	b, err := release(c)
	if err != nil {
		return nil, err
	}

	r, err := registryOf(c)
	if err != nil {
		return nil, err
	}

	defer r.Close()

	return read(ctx, r, b.Registry, b.TalosVersion)
}

// offer is what completion offers of a catalogue; nothing where it cannot be read.
func offer[T any](
	ctx context.Context, c *cmdutil.Call, read func(ctx context.Context, r imager.Registry, base, version string) ([]T, error), say func(T) string,
) []string {
	list, err := catalog(ctx, c, read)
	if err != nil {
		return nil
	}

	return lists.Map(list, say)
}
