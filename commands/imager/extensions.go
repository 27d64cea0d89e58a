package imager

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdExtensions(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "extensions", Short: "List the system extensions of a Talos release",
		Long: "List the system extensions that were released with a Talos version, from the release's own catalogue\n" +
			"image. The tier says who looks after one: core, extra or contrib.",
		Example: "  talosmate imager extensions --talos-version v1.14.1\n" +
			"  talosmate imager extensions -o json --query '.items[] | select(.tier == \"core\") | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Local: true},
		Flags: func(fs *cmdutil.Flags) {
			addVersionFlag(fs)
			addRegistryFlags(fs)
		},
	}, cmdutil.ListOf[imager.Extension]("ImagerExtensionList"), func(c *cmdutil.Call) error {
		list, err := catalog(c.Context(), c, imager.Extensions)
		if err != nil {
			return err
		}

		return cmdutil.PrintList(c, list, nil, []output.Column[imager.Extension]{
			{Header: "EXTENSION", Value: func(e imager.Extension) string { return e.Name }},
			{Header: "VERSION", Value: func(e imager.Extension) string { return e.Tag }},
			{Header: "TIER", Value: func(e imager.Extension) string { return e.Tier }},
			{Header: "DESCRIPTION", Value: func(e imager.Extension) string { return firstSentence(e.Description) }},
			{Header: "AUTHOR", Wide: true, Value: func(e imager.Extension) string { return e.Author }},
			{Header: "IMAGE", Wide: true, Value: imager.Extension.Pinned},
		}, func(e imager.Extension) string { return e.Name })
	})
}

// completeExtensions offers the release's extensions by their short names.
func completeExtensions(ctx context.Context, c *cmdutil.Call, _ []string) []string {
	return offer(ctx, c, imager.Extensions, func(e imager.Extension) string {
		return cmdutil.Described(e.Name, e.Tier+" "+e.Tag)
	})
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i+1]
	}

	return s
}
