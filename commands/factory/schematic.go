package factory

import (
	"fmt"
	"io"

	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/ops/imager"
	"github.com/talosmate/talosmate/internal/output"
)

// schematicOptions say which schematic is meant: a file, or its parts.
type schematicOptions struct {
	file    string
	parts   factory.Customization
	options []string
	text    []byte // The file's.
}

func (o *schematicOptions) addFlags(flags *cmdutil.Flags) {
	flags.StringVarP(&o.file, "file", "f", "", "schematic `file`, - for stdin")
	flags.StringArrayVar(&o.parts.Extensions, "extension", nil, "official extension by `name`, siderolabs/NAME or NAME (repeatable)")
	flags.StringArrayVar(&o.parts.KernelArgs, "kernel-arg", nil, "extra kernel `argument` (repeatable)")
	flags.StringArrayVar(&o.parts.Meta, "meta", nil, "META value as `KEY=VALUE` (repeatable)")
	flags.StringVar(&o.parts.OverlayName, "overlay", "", "overlay of a board, by `name`")
	flags.StringVar(&o.parts.OverlayImage, "overlay-image", "", "the overlay's `image`, siderolabs/sbc-raspberrypi")
	flags.StringArrayVar(&o.options, "overlay-option", nil, "option for the overlay as `KEY=VALUE` (repeatable)")
	flags.BoolVar(&o.parts.WellKnownCerts, "secureboot-include-well-known-certs", false, "secure boot enrolls Microsoft's certificates too")
}

// partFlags are those of addFlags but for the file.
func partFlags() []string {
	return []string{
		"extension", "kernel-arg", "meta", "overlay", "overlay-image", "overlay-option", "secureboot-include-well-known-certs",
	}
}

func (o *schematicOptions) given(c *cmdutil.Call) bool {
	for _, name := range partFlags() {
		if c.Cmd.Flags().Changed(name) {
			return true
		}
	}

	return false
}

func (o *schematicOptions) read(c *cmdutil.Call) (schematic.Schematic, error) {
	var none schematic.Schematic

	if o.file == "" {
		var err error
		if o.parts.OverlayOptions, err = imager.OverlayOptions(o.options); err != nil {
			return none, err
		}

		return factory.Make(o.parts)
	}

	if o.given(c) {
		return none, errs.Usagef("a schematic comes from a file or from flags, not from both")
	}

	var err error
	if o.text, err = c.Input(o.file, "the schematic"); err != nil {
		return none, err
	}

	return factory.Parse(o.text)
}

func saveSchematic(path string, s factory.Schematic) error {
	if path == "" {
		return nil
	}

	if s.YAML == "" {
		return errs.New(errs.Failed, "cannot write the schematic %s: the node keeps its ID only", s.ID)
	}

	return fsutil.WriteBytes(path, 0o644, []byte(s.YAML))
}

// showSchematic prints the ID alone for people and shells; -o wide adds what is in it.
func showSchematic(c *cmdutil.Call) func(io.Writer, factory.Schematic) error {
	return func(w io.Writer, s factory.Schematic) error {
		text := s.ID + "\n"
		if c.Printer.Format == output.Wide {
			text += s.YAML
		}

		_, err := fmt.Fprint(w, text)

		return err
	}
}
