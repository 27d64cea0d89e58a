package impact

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/talosmate/talosmate/internal/condition"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Verdict is the answer of a fact.
type Verdict string

// The verdicts.
const (
	Applies      Verdict = "applies"
	DoesNotApply Verdict = "does_not_apply"
	Unknown      Verdict = "unknown"
)

// Result is what the releases on the way change for the cluster.
type Result struct {
	To       string    `json:"to"`       // The version wanted.
	Releases []string  `json:"releases"` // The minor releases that nodes pass, oldest first; never null.
	Unlisted []string  `json:"unlisted"` // Those of them of which this program knows no facts; never null.
	Applies  int       `json:"applies"`  // How many facts apply.
	Unknown  int       `json:"unknown"`  // How many have no answer, and releases without facts.
	Facts    []Finding `json:"facts"`    // The facts of these releases: those that apply first, then the unknown ones; never null.
}

// Finding is the verdict on one fact.
type Finding struct {
	ID       string     `json:"id"`                // The fact.
	Release  string     `json:"release"`           // The release that changes it, v1.14; any for a fact of each release.
	Title    string     `json:"title"`             // What changes.
	Verdict  Verdict    `json:"verdict"`           // applies, unknown or does_not_apply. One that applies may be unknown for some nodes.
	Blocking bool       `json:"blocking"`          // Whether something breaks until somebody acts: gate TM155 of `upgrade plan` and `apply`.
	Evidence []Evidence `json:"evidence"`          // What shows that it applies; never null.
	Unknown  []Unasked  `json:"unknown"`           // What could not be asked; never null.
	Remedy   string     `json:"remedy"`            // What to do about it.
	Command  string     `json:"command,omitempty"` // The next command line.
	Note     string     `json:"note,omitempty"`    // What does not show here.
	Source   string     `json:"source"`            // Where it is written: a URL, or repository, version and file.
}

// Evidence is what shows on a node, or in the cluster, that a fact applies.
type Evidence struct {
	talos.NodeRef

	Fields []string `json:"fields"` // The fields, extensions or objects, the first 100; never null.
	Count  int      `json:"count"`  // How many there are.
}

// Unasked is a node, or the cluster, for which a fact has no answer.
type Unasked struct {
	talos.NodeRef

	Code   errs.Kind `json:"code"`   // The kind of failure, as in errors: unreachable, permission_denied, …
	Reason string    `json:"reason"` // Why there is no answer.
}

// Cluster is what the facts are about.
type Cluster struct {
	Nodes      func(ctx context.Context, ask func(context.Context, Reads) (Node, error)) []talos.Outcome[Node]
	Kubernetes func(ctx context.Context) (Kubernetes, error)
	Extensions func(ctx context.Context, version string) ([]string, error) // The official extensions for a version.
}

// Kubernetes is the Kubernetes API as far as facts use it; *kube.Client implements it.
type Kubernetes interface {
	FlexVolumePods(ctx context.Context) ([]string, error)
	DeprecatedAPIs(ctx context.Context) ([]kube.DeprecatedAPI, error)
}

// check is a run of Check.
type check struct {
	to    string
	facts []*Fact
	nodes []talos.Outcome[Node]
	world World

	missing map[string]error // Needs of the cluster that could not be asked.
}

// CheckVersion reports why a text is not a version.
func CheckVersion(to string) error {
	if to == "" {
		return errs.Usagef("say where to: --to VERSION").WithHint("for example --to v1.14.1")
	}

	if !release.Same(to, to) {
		return errs.Usagef("%q is not a version", to).WithHint("for example --to v1.14.1")
	}

	return nil
}

// Check evaluates the facts of each release between what the nodes run and a version. Nodes that cannot be read are in the
// error; what depends on them is unknown. Only what the facts need is asked.
func Check(ctx context.Context, c Cluster, to string) (Result, error) {
	return checkWith(ctx, embedded, c, to)
}

func checkWith(ctx context.Context, files fs.FS, c Cluster, to string) (Result, error) {
	out := Result{To: "v" + strings.TrimPrefix(to, "v"), Releases: []string{}, Unlisted: []string{}, Facts: []Finding{}}
	if err := CheckVersion(to); err != nil {
		return out, err
	}

	all, known, err := load(files)
	if err != nil {
		return out, err
	}

	k := &check{to: out.To, missing: map[string]error{}}
	k.nodes = c.Nodes(ctx, k.ask)

	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}

	answered, err := talos.Collect(k.nodes, true)
	if len(answered) == 0 {
		_, err = talos.Collect(k.nodes, false)

		return out, err
	}

	for i, o := range k.nodes {
		k.nodes[i].Value = o.Value.joined(o.Target)
	}

	out.Releases, out.Unlisted = k.releases(answered, known)
	k.facts = lists.Filter(all, func(f *Fact) bool {
		return slices.ContainsFunc(answered, func(o talos.Outcome[Node]) bool { return f.passes(o.Value.Version, k.to) })
	})

	for _, f := range k.facts {
		if err := f.compile(); err != nil {
			return out, err
		}
	}

	k.askCluster(ctx, c)

	out.Facts = append(out.Facts, k.evaluate()...)
	rank := func(f Finding) int { return slices.Index([]Verdict{Applies, Unknown, DoesNotApply}, f.Verdict) }
	lists.Sort(out.Facts, func(a, b Finding) int { return cmp.Compare(rank(a), rank(b)) })

	out.Applies = len(lists.Filter(out.Facts, func(f Finding) bool { return f.Verdict == Applies }))
	out.Unknown = len(lists.Filter(out.Facts, func(f Finding) bool { return f.Verdict == Unknown })) + len(out.Unlisted)

	return out, err
}

// releases lists the minor releases that nodes pass, and those of them without facts.
func (k *check) releases(answered []talos.Outcome[Node], known []string) (passed, unlisted []string) {
	lowest := release.Minor(k.to)
	for _, o := range answered {
		lowest = min(lowest, release.Minor(o.Value.Version))
	}

	passed, unlisted = []string{}, []string{}

	for m := lowest + 1; m <= release.Minor(k.to) && len(passed) < maxReleases; m++ {
		name := fmt.Sprintf("v1.%d", m)
		passed = append(passed, name)

		if !slices.Contains(known, name) {
			unlisted = append(unlisted, name)
		}
	}

	return passed, unlisted
}

// maxReleases bounds what a node or the user can name as versions.
const maxReleases = 50

// askCluster asks what the facts need of the cluster.
func (k *check) askCluster(ctx context.Context, c Cluster) {
	k.world = World{
		To: k.to, Newest: release.NewestKubernetes(k.to), Extensions: []string{}, FlexVolumePods: []string{}, DeprecatedAPIs: []kube.DeprecatedAPI{},
	}

	needed := func(what string) bool {
		return slices.ContainsFunc(k.facts, func(f *Fact) bool { return slices.Contains(f.Needs, what) })
	}

	if needed(NeedsExtensions) {
		list, err := c.Extensions(ctx, k.to)
		k.world.Extensions = lists.Map(list, func(e string) string { return strings.TrimPrefix(e, "siderolabs/") })
		k.missing[NeedsExtensions] = err
	}

	if !needed(NeedsPods) && !needed(NeedsMetrics) || !k.hasKubernetes() {
		return
	}

	api, err := c.Kubernetes(ctx)
	if err != nil {
		k.missing[NeedsPods], k.missing[NeedsMetrics] = err, err

		return
	}

	if pods, err := api.FlexVolumePods(ctx); err != nil {
		k.missing[NeedsPods] = err
	} else {
		k.world.FlexVolumePods = filled(pods)
	}

	if apis, err := api.DeprecatedAPIs(ctx); err != nil {
		k.missing[NeedsMetrics] = err
	} else {
		k.world.DeprecatedAPIs = filled(apis)
	}
}

// hasKubernetes reports whether a Kubernetes API is expected: a node is a member, or did not say.
func (k *check) hasKubernetes() bool {
	return slices.ContainsFunc(k.nodes, func(o talos.Outcome[Node]) bool { return o.Err != nil || o.Value.K8sNodeName != "" })
}

// evaluate judges every fact on every node that passes its release, or in the cluster.
func (k *check) evaluate() []Finding {
	out := lists.Map(k.facts, func(f *Fact) Finding {
		return Finding{
			ID: f.ID, Release: f.release, Title: f.Title, Blocking: f.Blocking, Evidence: []Evidence{}, Unknown: []Unasked{},
			Remedy: f.Remedy, Note: f.Note, Source: f.Source, Verdict: DoesNotApply,
		}
	})

	cluster, err := condition.Values(map[string]any{"cluster": k.world})
	for i, f := range k.facts {
		if f.Cluster != "" {
			out[i].judge(f, talos.NodeRef{}, cmp.Or(err, k.unmet(f)), cluster)
		}
	}

	for _, o := range k.nodes {
		ref := talos.NodeRef{Node: o.Target.Address, Hostname: o.Target.Hostname}
		values, err := condition.Values(map[string]any{"cluster": k.world, "node": o.Value})
		err = cmp.Or(o.Err, err)

		for i, f := range k.facts {
			if f.Node == "" || o.Err == nil && !f.passes(o.Value.Version, k.to) {
				continue
			}

			failed := cmp.Or(err, k.unmet(f))
			if slices.Contains(f.Needs, NeedsConfig) {
				failed = cmp.Or(failed, o.Value.unread)
			}

			out[i].judge(f, ref, failed, values)
		}
	}

	for i, f := range k.facts {
		switch {
		case len(out[i].Evidence) > 0:
			out[i].Verdict = Applies
		case len(out[i].Unknown) > 0:
			out[i].Verdict = Unknown
		}

		out[i].Command = f.commandFor(out[i].Evidence, k.to)
	}

	return out
}

// judge evaluates a fact for one node or the cluster, unless err says why that is impossible.
func (f *Finding) judge(fact *Fact, ref talos.NodeRef, err error, values map[string]any) {
	var shown []string
	if err == nil {
		shown, err = fact.shown.Texts(values)
	}

	switch {
	case err != nil:
		f.Unknown = append(f.Unknown, Unasked{ref, cmp.Or(conn.KindOf(err), errs.KindFailed), cut(err.Error())})
	case len(shown) > 0:
		f.Evidence = append(f.Evidence, Evidence{ref, lists.Map(shown[:min(len(shown), maxShown)], cut), len(shown)})
	}
}

// unmet is why what a fact needs of the cluster is not known.
func (k *check) unmet(f *Fact) error {
	for _, need := range f.Needs {
		if err := k.missing[need]; err != nil {
			return err
		}
	}

	return nil
}

// maxShown bounds the fields that are listed for a node.
const maxShown = 100

// cut bounds a text that comes from a node, and hides secrets in it.
func cut(text string) string {
	const most = 300

	text = redact.Text(text)
	if len(text) <= most {
		return text
	}

	for text = text[:most]; !utf8.ValidString(text); {
		text = text[:len(text)-1]
	}

	return text + "…"
}

// commandFor fills in the command line. A node's address becomes a part of it only if a shell reads it as one word.
func (f *Fact) commandFor(shown []Evidence, to string) string {
	node := "NODE"
	if len(shown) > 0 && regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.:-]*$`).MatchString(shown[0].Node) {
		node = shown[0].Node
	}

	return strings.NewReplacer("{node}", node, "{to}", to).Replace(f.Command)
}
