package gen

import (
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/generate"
)

func newCmdSecrets(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		path, version string
		overwrite     bool
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "secrets", Short: "Make the secrets of a new cluster",
		Long: "Make a secrets file: every key and token of a cluster, from which `gen config --with-secrets` makes the same\n" +
			"configurations again. Keep it safe. --output-file - writes to stdout.",
		Example: "  talosmate gen secrets --output-file secrets.yaml\n" +
			"  talosmate gen secrets --talos-version v1.12 --output-file - | sops --encrypt --input-type yaml /dev/stdin",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&path, "output-file", "secrets.yaml", "the `file` to write, - for stdout")
			fs.StringVar(&version, "talos-version", "", "the Talos version to make them for (default: the newest that is known)")
			fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
			fs.BoolVar(&overwrite, "overwrite", false, "replace the file")
		},
	}, cmdutil.ResultOf[File]("GenSecrets"), func(c *cmdutil.Call) error {
		if path == "-" {
			c.RawOutput()
		} else if err := vacant(overwrite, path); err != nil {
			return err
		}

		raw, err := generate.Secrets(version, f.Now())
		if err != nil {
			return err
		}

		if path == "-" {
			_, err = c.IO.Out.Write(raw)

			return err
		}

		if err = fsutil.WriteBytes(path, 0o600, raw); err != nil {
			return err
		}

		return cmdutil.PrintResult(c, File{Type: "secrets", Path: path, SizeBytes: len(raw)}, nil, path, func(w io.Writer, r File) error {
			_, err := fmt.Fprintln(w, r.Path)

			return err
		})
	})
}
