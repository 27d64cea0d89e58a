package impact

import (
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
)

// Error is the answer no: facts that apply, or that are unknown. Nil for neither.
func (r Result) Error() error {
	if r.Applies+r.Unknown == 0 {
		return nil
	}

	return errs.New(errs.Negative, "the upgrade to %s: %s, %d unknown", r.To, plural(r.Applies, "fact applies", "facts apply"), r.Unknown).
		WithKind(errs.KindNegative)
}

func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}

	return fmt.Sprintf("%d %s", n, several)
}

// Gates are the verdicts of TM155: on each node, or the cluster, for which a blocking fact applies or has no answer. What
// the certificate may not read is skipped: `upgrade apply` takes one that may.
func (r Result) Gates() []gate.Verdict {
	out := []gate.Verdict{}

	for _, name := range r.Unlisted {
		out = append(out, gate.New(gate.ReleaseChanges, gate.Warn, "", "this program does not know what Talos %s changes", name))
	}

	for _, f := range r.Facts {
		if !f.Blocking {
			continue
		}

		remedy := strings.TrimSuffix(f.Remedy, ".")
		if f.Command != "" {
			remedy += ": " + f.Command
		}

		for _, e := range f.Evidence {
			out = append(out, gate.New(gate.ReleaseChanges, gate.Refuse, e.Node, "%s: %s (%s)", f.named(), f.Title, e).WithRemedy("%s", remedy))
		}

		for _, u := range f.Unknown {
			outcome := gate.Refuse
			if u.Code == errs.KindPermissionDenied {
				outcome = gate.Skip
			}

			out = append(out, gate.New(gate.ReleaseChanges, outcome, u.Node, "%s: not known whether it applies: %s", f.named(), u.Reason))
		}
	}

	if len(out) == 0 {
		out = append(out, gate.New(gate.ReleaseChanges, gate.Pass, "", "no release on the way is known to break something here"))
	}

	return out
}

// named is the fact with its release.
func (f Finding) named() string { return strings.TrimPrefix(f.Release+" "+f.ID, anyRelease+" ") }

// String lists the first fields.
func (e Evidence) String() string {
	const most = 3

	text := strings.Join(e.Fields[:min(len(e.Fields), most)], ", ")
	if e.Count > most {
		text += fmt.Sprintf(" and %d more", e.Count-most)
	}

	return text
}
