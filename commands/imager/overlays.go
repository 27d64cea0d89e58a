package imager

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdOverlays(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "overlays", Short: "List the board overlays of a Talos release",
		Example: "  talosmate imager overlays --talos-version v1.14.1\n" +
			"  talosmate imager overlays -o json --query '.items[] | select(.name == \"rpi_generic\") | .image'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addVersionFlag(fs)
			addRegistryFlags(fs)
		},
	}, cmdutil.ListOf[imager.BoardOverlay]("ImagerOverlayList"), func(c *cmdutil.Call) error {
		list, err := catalog(c.Context(), c, imager.Overlays)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, list, nil, []output.Column[imager.BoardOverlay]{
			{Header: "OVERLAY", Value: func(o imager.BoardOverlay) string { return o.Name }},
			{Header: "IMAGE", Value: func(o imager.BoardOverlay) string { return o.Image }},
			{Header: "DIGEST", Wide: true, Value: func(o imager.BoardOverlay) string { return o.Digest }},
		}, func(o imager.BoardOverlay) string { return o.Name })
	})
}

// completeOverlays offers the release's overlays by name.
func completeOverlays(ctx context.Context, c *cmdutil.Call, _ []string) []string {
	return offer(ctx, c, imager.Overlays, func(o imager.BoardOverlay) string {
		return cmdutil.Described(o.Name, o.Image)
	})
}
