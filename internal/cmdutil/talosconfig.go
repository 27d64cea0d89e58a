package cmdutil

import (
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/talos/config"
)

// EditableTalosconfig is the talosconfig file that an edit is made to; it may be missing yet.
func (f *Factory) EditableTalosconfig(flags *pflag.FlagSet) (string, error) {
	return config.EditablePath(f.lookup(flags))
}
