package imager

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

func newCmdExtensions(f *cmdutil.Factory) *cobra.Command {
	spec := cmdutil.Spec{Kind: cmdutil.Read, Local: true, Schema: "ImagerExtensionList", Document: output.List[imager.Extension]{}}
	cmd := &cobra.Command{
		Use: "extensions", Short: "List the system extensions of a Talos release",
		Long: "List the system extensions that were released with a Talos version, from the release's own catalogue\n" +
			"image. The tier says who looks after one: core, extra or contrib.",
		Example: "  talosmate imager extensions --talos-version v1.13.9\n" +
			"  talosmate imager extensions -o json --query '.items[] | select(.tier == \"core\") | .name'",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
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
		}),
	}

	f.Declare(cmd, spec)
	addVersionFlag(f, cmd)
	addRegistryFlags(cmd.Flags())

	return cmd
}

// completeExtensions offers the release's extensions by their short names.
func completeExtensions(ctx context.Context, c *cmdutil.Call, _ []string) []string {
	return offer(ctx, c, imager.Extensions, func(e imager.Extension) string {
		return cobra.CompletionWithDesc(e.Name, e.Tier+" "+e.Tag)
	})
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i+1]
	}

	return s
}
