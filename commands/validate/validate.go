// Package validate holds `talosmate validate`.
package validate

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/annotation"
	"github.com/talosmate/talosmate/internal/lists"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/ops/validate"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		file, mode, version string
		strict              bool
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "validate", Short: "Judge a machine configuration without a cluster",
		Long: "Judge a machine configuration with Talos's own loader and validation, those of Talos " + release.Known() + ". Exit code 3\n" +
			"says that it is not valid; the document says why, with line numbers. With --talos-version it is judged for a node of\n" +
			"that release. A file with documents that only a newer Talos knows cannot be judged here: exit code 2.",
		Example: "  talosmate validate -f controlplane.yaml --mode metal --strict\n" +
			"  talosmate machineconfig get -n cp-1 --show-secrets | talosmate validate -f - --mode metal -o json",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true, Question: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVarP(&file, "file", "f", "", "the configuration `file`, - for stdin")
			fs.Choice(&mode, "mode", "metal", "the kind of machine", validate.Modes()...)
			fs.StringVar(&version, "talos-version", "", "the Talos `version` of the node (default: "+release.Known()+", the newest that this program knows)")
			fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
			fs.BoolVar(&strict, "strict", false, "treat what Talos only warns of as errors")
		},
	}, cmdutil.ResultOf[validate.Result]("Validation"), func(c *cmdutil.Call) error {
		if file == "" {
			return errs.Usagef("no file to validate").WithHint("%s", c.Again("-f", "FILE"))
		}

		text, err := c.Input(file, "the machine configuration")
		if err != nil {
			return err
		}

		if version != "" && release.Minor(version) == 0 {
			return errs.Usagef("bad --talos-version %q: want v1.14 or v1.14.1", version)
		}

		if err = foreign.Check(text); errors.Is(err, foreign.ErrTooLarge) {
			return errs.Usagef("cannot read the machine configuration: %w", err)
		}

		result := validate.For(text, mode, version, strict)
		result.File = file

		err = nil
		if !result.Valid {
			err = notValid(result)
		}

		c.Annotate(annotated(file, annotation.Error, result.Errors)...)
		c.Annotate(annotated(file, annotation.Warning, result.Warnings)...)

		return cmdutil.PrintResult(c, result, err, file, show)
	})
}

// notValid is the verdict. A document that the loader has never heard of may be one of a newer Talos: then there is none.
func notValid(r validate.Result) error {
	if slices.ContainsFunc(r.Errors, func(p validate.Problem) bool { return strings.HasSuffix(p.Message, "not registered") }) {
		return errs.Usagef("cannot judge %s: it has documents that this program does not know", r.File).
			WithHint("this program knows the documents of Talos up to %s; of a newer one, a node itself judges: `talosmate machineconfig apply --dry-run`", release.Known())
	}

	return errs.New(errs.Negative, "%s is not valid for mode %s (errors: %d)", r.File, r.Mode, len(r.Errors))
}

func annotated(file, severity string, problems []validate.Problem) []annotation.Finding {
	return lists.Map(problems, func(p validate.Problem) annotation.Finding {
		return annotation.Finding{Severity: severity, Title: "machine configuration", Message: p.Message, File: file, Line: p.Line}
	})
}

func show(w io.Writer, r validate.Result) error {
	for _, group := range []struct {
		word     string
		problems []validate.Problem
	}{{"error", r.Errors}, {"warning", r.Warnings}} {
		for _, p := range group.problems {
			at := r.File
			if p.Line > 0 {
				at = fmt.Sprintf("%s:%d", r.File, p.Line)
			}

			if _, err := fmt.Fprintf(w, "%s: %s: %s\n", at, group.word, output.Cell(p.Message)); err != nil {
				return err
			}
		}
	}

	if !r.Valid {
		return nil
	}

	_, err := fmt.Fprintf(w, "%s is valid for mode %s\n", r.File, r.Mode)

	return err
}
