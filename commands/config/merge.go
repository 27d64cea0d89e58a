package config

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

type mergeOptions struct {
	overwrite, rename, skip bool
}

func newCmdMerge(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &mergeOptions{}

	return newEdit(f, cmdutil.Command{
		Use: "merge FILE", Short: "Add the contexts of another talosconfig",
		Long: "Add every context of another talosconfig (- reads stdin). A name that is taken is an error unless a flag says\n" +
			"what happens to it. The current context stays; the file as it was stays beside it as .bak.",
		Example: "  talosmate config merge ./talosconfig --rename\n" +
			"  talosctl -n 10.0.0.11 config new - | talosmate config merge - --overwrite", Complete: cmdutil.CompleteFiles,
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&o.overwrite, "overwrite", false, "a context of the same name is replaced")
			fs.BoolVar(&o.rename, "rename", false, "a context of the same name gets a free one")
			fs.BoolVar(&o.skip, "skip", false, "a context of the same name is skipped")
			fs.Exclusive("overwrite", "rename", "skip")
		},
	}, edit{Backup: true, Apply: o.apply})
}

func (o *mergeOptions) apply(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
	result := Edit{Context: c.Args[0], Action: "merged"}

	raw, err := c.Input(c.Args[0], c.Args[0])
	if err != nil {
		return result, err
	}

	other, err := talosconfig.Parse(raw)
	if err != nil {
		return result, errs.Usagef("cannot read %s: %w", c.Args[0], err)
	}

	if len(other.Names()) == 0 {
		return result, errs.Usagef("%s has no contexts", c.Args[0])
	}

	policy := ""

	switch {
	case o.overwrite:
		policy = talosconfig.Overwrite
	case o.rename:
		policy = talosconfig.Rename
	case o.skip:
		policy = talosconfig.Skip
	}

	result.Merged, err = file.Merge(other, policy)

	return result, err
}
