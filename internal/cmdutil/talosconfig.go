package cmdutil

import (
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/talos"
)

// EditableTalosconfig is the talosconfig file that an edit is made to; it may be missing yet.
func (f *Factory) EditableTalosconfig(flags *pflag.FlagSet) (string, error) {
	return talos.EditablePath(f.lookup(flags))
}
