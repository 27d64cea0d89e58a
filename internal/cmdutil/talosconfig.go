package cmdutil

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/talos"
)

// EditableTalosconfig is the talosconfig file that an edit is made to; it may be missing yet.
func (f *Factory) EditableTalosconfig(flags *pflag.FlagSet) (string, error) {
	return talos.EditablePath(f.lookup(flags))
}

// Complete makes a completion of an argument out of a function, never falling back to files.
func Complete(f *Factory, fn CompletionFunc) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return completion(f, fn)
}
