package cmdutil

import (
	"fmt"

	"github.com/talosmate/talosmate/internal/annotation"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
)

// Annotate writes findings for the CI system that --annotations names to stderr; nothing without the flag.
func (c *Call) Annotate(findings ...annotation.Finding) {
	if form, _ := c.Cmd.Flags().GetString("annotations"); form != annotation.GitHub {
		return
	}

	for _, f := range findings {
		fmt.Fprintln(c.IO.Err, f.Command())
	}
}

// AnnotateError writes each distinct error of err with its hint.
func (c *Call) AnnotateError(err error) {
	said := map[string]bool{}

	for _, e := range errs.Entries(err) {
		f := annotation.Finding{Severity: annotation.Error, Title: c.Cmd.CommandPath(), Message: e.Message}

		if e.Hint != "" {
			f.Message += "\nhint: " + e.Hint
		}

		if line := f.Command(); !said[line] {
			said[line] = true

			c.Annotate(f)
		}
	}
}

// GateFindings are the verdicts that refuse or warn.
func GateFindings(verdicts []gate.Verdict) []annotation.Finding {
	var out []annotation.Finding

	for _, v := range verdicts {
		f := annotation.Finding{Severity: annotation.Warning, Title: titled(string(v.Gate), v.Node), Message: v.Message}

		switch v.Verdict {
		case gate.Refuse:
			f.Severity = annotation.Error
		case gate.Warn:
		default:
			continue
		}

		if v.Remedy != "" {
			f.Message += "\n" + v.Remedy
		}

		out = append(out, f)
	}

	return out
}

// ChangeFinding is a difference; file is what it is a difference to, where known.
func ChangeFinding(c machineconfig.Change, title, file string) annotation.Finding {
	f := annotation.Finding{Severity: annotation.Error, Title: title, File: file}

	switch {
	case c.Secret: // not even with --show-secrets
		f.Message = fmt.Sprintf("%s: %s: a secret", c.Path, c.Op)
	case c.Op == machineconfig.Add:
		f.Message = fmt.Sprintf("+ %s: %s", c.Path, c.To)
	case c.Op == machineconfig.Remove:
		f.Message = fmt.Sprintf("- %s: %s", c.Path, c.From)
	default:
		f.Message = fmt.Sprintf("~ %s: %s -> %s", c.Path, c.From, c.To)
	}

	return f
}

// titled joins what found something and the node that it is about.
func titled(what, node string) string {
	if node == "" {
		return what
	}

	return what + " " + node
}
