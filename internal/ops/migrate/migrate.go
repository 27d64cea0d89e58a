// Package migrate converts v1alpha1 machine configurations to the documents of newer Talos releases, and proves that
// Talos reads the same from both.
package migrate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config"
	coreconfig "github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/validate"
	"github.com/talosmate/talosmate/internal/redact"
)

// What became of a field.
const (
	Moved      = "moved"      // It stands in a document.
	Added      = "added"      // v1alpha1 implied it; the document says it.
	Dropped    = "dropped"    // It changes nothing in the target release.
	Kept       = "kept"       // It stays in v1alpha1.
	Impossible = "impossible" // No document can say it; its subsystem stays in v1alpha1.
)

// Field is what became of a field or a subtree of the configuration.
type Field struct {
	Path     string `json:"path,omitempty"`     // The path in the v1alpha1 document; empty for what is added.
	Status   string `json:"status"`             // moved, added, dropped, kept or impossible.
	Document string `json:"document,omitempty"` // The document that it moved to, KIND or KIND/NAME.
	To       string `json:"to,omitempty"`       // The path in that document.
	Reason   string `json:"reason,omitempty"`   // Why it was added, dropped or kept, or is impossible.
	Remedy   string `json:"remedy,omitempty"`   // What makes an impossible field possible.
}

// Exception is an accessor of the configuration that answers differently, and why that makes no difference.
type Exception struct {
	Path   string `json:"path"`   // The accessor.
	Reason string `json:"reason"` // Why the difference is none.
}

// Proof says how the equivalence was proved.
type Proof struct {
	Accessors  int         `json:"accessors"`  // How many values were compared.
	Exceptions []Exception `json:"exceptions"` // The accessors that differ; never null.
}

// Options are what the user decides.
type Options struct {
	To    string   // The release, v1.12, v1.13 or v1.14.
	Only  []string // The kinds to write; empty for all.
	Links []string // The physical links of the machine; empty if they are not known.

	Aliases map[string][]string // Other names of the physical links.
}

// Result is a migrated configuration.
type Result struct {
	To        string   `json:"to"`        // The release.
	Changed   bool     `json:"changed"`   // Whether anything moved.
	Documents []string `json:"documents"` // The documents that were written; never null.
	Fields    []Field  `json:"fields"`    // What became of the fields; never null.
	Warnings  []string `json:"warnings"`  // What the migration cannot keep, and what Talos warns of; never null.
	Proof     Proof    `json:"proof"`     // The proof that Talos reads the same.

	Text   []byte `json:"-"` // The configuration.
	Before []byte `json:"-"` // What it was made from.
}

// Releases lists the releases that a configuration can be migrated to.
func Releases() []string { return []string{"v1.12", "v1.13", "v1.14"} }

// Kinds lists the documents that a migration to a release can write.
func Kinds(to string) []string {
	var out []string

	for _, s := range subsystems() {
		if s.since <= to {
			out = append(out, s.kinds...)
		}
	}

	slices.Sort(out)

	return slices.Compact(out)
}

// subsystem converts one part of v1alpha1 as a whole.
type subsystem struct {
	since   string // The release that has all its documents.
	kinds   []string
	convert func(*source) *unit
}

// source is the configuration to migrate.
type source struct {
	o         Options
	v         *v1alpha1.Config
	provider  config.Provider
	root      *yaml.Node
	documents map[string]*yaml.Node
	order     []string
}

func (s *source) controlPlane() bool { return s.provider.Machine().Type().IsControlPlane() }

func (s *source) has(path string) bool { return at(s.root, path) != nil }

// wants reports whether a kind may be written.
func (s *source) wants(kind string) bool {
	return slices.Contains(Kinds(s.o.To), kind) && (len(s.o.Only) == 0 || slices.Contains(s.o.Only, kind))
}

// unit is what becomes of one subsystem.
type unit struct {
	s       *source
	docs    []coreconfig.Document
	moves   []move
	added   []Field
	dropped []Field
	blocked []Field
	cleared []string
}

type move struct{ from, document, to string }

func (s *source) unit() *unit { return &unit{s: s} }

func key(d coreconfig.Document) string {
	if named, ok := d.(coreconfig.NamedDocument); ok {
		return d.Kind() + "/" + named.Name()
	}

	return d.Kind()
}

// write adds a document.
func (u *unit) write(d coreconfig.Document) { u.docs = append(u.docs, d) }

// move moves a field, if the source has it.
func (u *unit) move(from string, d coreconfig.Document, to string) {
	if u.s.has(from) {
		u.moves = append(u.moves, move{from, key(d), to})
	}
}

// add says what v1alpha1 implied.
func (u *unit) add(d coreconfig.Document, to, reason string) {
	u.added = append(u.added, Field{Status: Added, Document: key(d), To: to, Reason: reason})
}

// drop removes a field that changes nothing.
func (u *unit) drop(from, reason string) {
	if u.s.has(from) {
		u.dropped = append(u.dropped, Field{Path: from, Status: Dropped, Reason: reason})
	}
}

// clear removes what moves leave of a path: empty collections, and lists whose elements moved.
func (u *unit) clear(path string) {
	if u.s.has(path) {
		u.cleared = append(u.cleared, path)
	}
}

// block keeps the whole subsystem, because of one field.
func (u *unit) block(path, reason, remedy string) {
	u.blocked = append(u.blocked, Field{Path: path, Status: Impossible, Reason: reason, Remedy: remedy})
}

// validate blocks the subsystem with what Talos says of its documents.
func (u *unit) validate(path string) *unit {
	if len(u.blocked) > 0 {
		return u
	}

	for _, d := range u.docs {
		if _, known := u.s.documents[key(d)]; known && d.Kind() != "ResolverConfig" && d.Kind() != "VolumeConfig" {
			u.block(path, "the configuration already has "+key(d), "merge the two by hand")

			continue
		}

		v, ok := d.(coreconfig.Validator)
		if !ok {
			continue
		}

		if _, err := v.Validate(mode{}); err != nil {
			u.block(path, fmt.Sprintf("Talos refuses the document %s: %s", key(d), redact.Message(strings.ReplaceAll(err.Error(), "\n", "; "), u.s.root)), "correct the value first")
		}
	}

	return u
}

type mode struct{}

func (mode) String() string        { return "metal" }
func (mode) RequiresInstall() bool { return true }
func (mode) InContainer() bool     { return false }

// load reads a configuration with Talos's own loader and as a tree.
func load(text []byte, o Options) (*source, error) {
	s := &source{o: o, documents: map[string]*yaml.Node{}}

	trees, err := foreign.Documents(text)
	if err != nil {
		return nil, errs.Usagef("cannot parse the machine configuration: %w", err)
	}

	if s.provider, err = configloader.NewFromBytes(text); err != nil {
		return nil, errs.Usagef("cannot read the machine configuration: %s", redact.Message(err.Error(), trees...))
	}

	if s.v = s.provider.RawV1Alpha1(); s.v == nil || s.v.MachineConfig == nil {
		return nil, errs.Usagef("the machine configuration has no v1alpha1 document: there is nothing to migrate")
	}

	for _, tree := range trees {
		if len(tree.Content) == 0 || tree.Content[0].Kind != yaml.MappingNode {
			continue
		}

		body, err := whole(tree.Content[0])
		if err != nil {
			return nil, err
		}

		note(tree, body)

		kind := at(body, "kind")
		if kind == nil {
			s.root = body

			continue
		}

		id := kind.Value
		if name := at(body, "name"); name != nil {
			id += "/" + name.Value
		}

		s.documents[id], s.order = body, append(s.order, id)
	}

	s.o.Links = o.links(s)

	return s, nil
}

// Migrate converts a configuration. A result that does not answer every accessor of Talos as the source did, or that
// Talos refuses, is an error.
func Migrate(text []byte, o Options) (Result, error) {
	res := Result{To: o.To, Documents: []string{}, Fields: []Field{}, Warnings: []string{}, Proof: Proof{Exceptions: []Exception{}}}

	res.Before = text

	s, err := load(text, o)
	if err != nil {
		return res, err
	}

	for _, kind := range o.Only {
		if !slices.Contains(Kinds(o.To), kind) {
			return res, errs.Usagef("a migration to %s writes no %q", o.To, kind).WithHint("kinds: %s", strings.Join(Kinds(o.To), ", "))
		}
	}

	root, err := whole(s.root)
	if err != nil {
		return res, err
	}

	var taken []string

	for _, sub := range subsystems() {
		if sub.since > o.To || !slices.ContainsFunc(sub.kinds, s.wants) {
			continue
		}

		u := sub.convert(s)
		if u == nil || len(u.moves)+len(u.dropped)+len(u.blocked)+len(u.cleared) == 0 {
			continue
		}

		res.Fields = append(res.Fields, u.fields()...)

		if len(u.blocked) > 0 {
			continue
		}

		if err = s.take(u, root, &taken); err != nil {
			return res, err
		}

		res.Documents = append(res.Documents, lists.Map(u.docs, key)...)
	}

	if left := lost(s.root, root, taken); len(left) > 0 {
		return res, errs.New(errs.Failed, "cannot migrate the machine configuration: these fields would be lost: %s", strings.Join(left, ", "))
	}

	res.Changed = len(taken) > 0
	res.Fields = append(res.Fields, s.kept(root, res.Fields)...)

	if res.Text, err = s.encode(root); err != nil {
		return res, err
	}

	return res, s.prove(&res, root)
}

// prove loads the result again, as a node would, and proves that it is equivalent and valid.
func (s *source) prove(res *Result, root *yaml.Node) error {
	after, err := configloader.NewFromBytes(res.Text)
	if err != nil {
		return errs.New(errs.Failed, "cannot migrate the machine configuration: Talos cannot read the result: %s", redact.Message(err.Error(), s.trees(root)...))
	}

	proof, differ := Prove(s.provider, after, s.o.Links)
	res.Proof = proof

	if len(differ) > 0 {
		return errs.New(errs.Failed, "cannot prove that the migrated machine configuration is equivalent: it differs in %s", strings.Join(differ, ", ")).
			WithHint("nothing was written; with --only, choose all kinds of the subsystem")
	}

	before, verdict := validate.Config(s.text(), "metal", false), validate.Config(res.Text, "metal", false)
	if before.Valid && !verdict.Valid {
		return errs.New(errs.Failed, "cannot migrate the machine configuration: Talos refuses the result: %s",
			lists.Join(verdict.Errors, "; ", func(p validate.Problem) string { return p.Message })).
			WithHint("nothing was written; with --only, choose all kinds of the subsystem")
	}

	known := lists.Map(before.Warnings, func(p validate.Problem) string { return p.Message })

	for _, w := range verdict.Warnings {
		if !slices.Contains(known, w.Message) {
			res.Warnings = append(res.Warnings, "Talos warns: "+w.Message)
		}
	}

	if n := s.commentsLost(root); n > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("comment lines that have no place in the documents: %d", n))
	}

	return nil
}

func (s *source) text() []byte {
	text, err := s.provider.Bytes()
	if err != nil {
		return nil
	}

	return text
}

func (s *source) trees(root *yaml.Node) []*yaml.Node {
	out := []*yaml.Node{root}
	for _, id := range s.order {
		out = append(out, s.documents[id])
	}

	return out
}

func (s *source) commentsLost(root *yaml.Node) int {
	before, after := map[string]int{}, map[string]int{}
	comments(s.root, before)

	for _, tree := range s.trees(root) {
		comments(tree, after)
	}

	n := 0
	for line, count := range before {
		n += max(0, count-after[line])
	}

	return n
}

// take carries out a unit: its documents join the configuration, and its fields leave v1alpha1.
func (s *source) take(u *unit, root *yaml.Node, taken *[]string) error {
	for _, d := range u.docs {
		tree, err := encode(d)
		if err != nil {
			return err
		}

		id := key(d)
		if old, known := s.documents[id]; known {
			comment(old, tree)
		} else {
			s.order = append(s.order, id)
		}

		s.documents[id] = tree
	}

	for _, m := range u.moves {
		fromKey, from := entry(s.root, m.from)
		toKey, to := entry(s.documents[m.document], m.to)

		if m.to != "" {
			note(fromKey, toKey)
		}

		comment(from, to)

		*taken = append(*taken, m.from)
		remove(root, m.from)
	}

	for _, d := range u.dropped {
		*taken = append(*taken, d.Path)
		remove(root, d.Path)
	}

	for _, path := range u.cleared {
		if n := at(root, path); n != nil && bare(n, path, *taken) {
			*taken = append(*taken, path)
			remove(root, path)
		}
	}

	return nil
}

func encode(d coreconfig.Document) (*yaml.Node, error) {
	text, err := encoder.NewEncoder(d, encoder.WithComments(encoder.CommentsDisabled)).Encode()
	if err != nil {
		return nil, fmt.Errorf("cannot write the document %s: %w", key(d), err)
	}

	tree, err := foreign.Document(text)
	if err != nil || len(tree.Content) == 0 {
		return nil, fmt.Errorf("cannot write the document %s: %w", key(d), err)
	}

	return tree.Content[0], nil
}

// encode writes the configuration: v1alpha1 first, then the documents in their order.
func (s *source) encode(root *yaml.Node) ([]byte, error) {
	var out bytes.Buffer

	enc := yaml.NewEncoder(&out)
	enc.SetIndent(4) // as Talos writes it

	for _, tree := range s.trees(root) {
		if err := enc.Encode(tree); err != nil {
			return nil, fmt.Errorf("cannot write the machine configuration: %w", err)
		}
	}

	err := enc.Close()

	return out.Bytes(), err
}

// fields says what became of the fields of a unit.
func (u *unit) fields() []Field {
	if len(u.blocked) == 0 {
		moved := lists.Map(u.moves, func(m move) Field {
			return Field{Path: m.from, Status: Moved, Document: m.document, To: m.to}
		})

		return slices.Concat(moved, u.added, u.dropped)
	}

	out, why := u.blocked, u.blocked[0].Path

	for _, m := range u.moves {
		if !slices.ContainsFunc(u.blocked, func(f Field) bool { return below(f.Path, m.from) || below(m.from, f.Path) }) {
			out = append(out, Field{Path: m.from, Status: Kept, Reason: why + " cannot move, and the two cannot be apart"})
		}
	}

	return out
}

// kept says of everything that is left in v1alpha1 why.
func (s *source) kept(root *yaml.Node, said []Field) []Field {
	var out []Field

	for _, section := range []string{"machine", "cluster"} {
		n := at(root, section)
		if n == nil || n.Kind != yaml.MappingNode {
			continue
		}

		for i := 0; i+1 < len(n.Content); i += 2 {
			path := join(section, n.Content[i].Value)
			if !slices.ContainsFunc(said, func(f Field) bool {
				return f.Status != Moved && f.Status != Dropped && f.Path != "" && below(f.Path, path)
			}) {
				out = append(out, Field{Path: path, Status: Kept, Reason: s.whyKept(path)})
			}
		}
	}

	return out
}

func (s *source) whyKept(path string) string {
	switch path {
	case "machine.type", "machine.token", "machine.ca", "machine.acceptedCAs", "machine.certSANs", "cluster.token", "cluster.etcd",
		"cluster.adminKubeconfig":
		return "it is part of v1alpha1 in every release"
	case "machine.disks":
		return "no document mounts a partition at a path of your own: UserVolumeConfig mounts at /var/mnt/NAME"
	case "machine.files":
		return "no document writes files outside /etc"
	case "machine.logging":
		return "no document sends the logs of services"
	case "machine.seccompProfiles", "cluster.externalCloudProvider":
		return "no document says it"
	}

	for _, kind := range Kinds("v1.14") {
		if slices.Contains(owners()[kind], path) {
			if !slices.Contains(Kinds(s.o.To), kind) {
				return "Talos " + s.o.To + " has no " + kind
			}

			if !s.wants(kind) {
				return kind + " was not chosen"
			}

			return "there is nothing in it to move"
		}
	}

	return "no document of Talos " + s.o.To + " says it"
}

// owners names the sections that a kind is about, for reasons only.
func owners() map[string][]string {
	return map[string][]string{
		"KubeNodeConfig":           {"machine.nodeLabels", "machine.nodeAnnotations", "machine.nodeTaints", "cluster.allowSchedulingOnControlPlanes", "cluster.allowSchedulingOnMasters"},
		"KubeletConfig":            {"machine.kubelet"},
		"KubeStaticPodConfig":      {"machine.pods"},
		"LinkConfig":               {"machine.network"},
		"UnattendedInstallConfig":  {"machine.install"},
		"EnvironmentConfig":        {"machine.env"},
		"TimeSyncConfig":           {"machine.time"},
		"SysctlConfig":             {"machine.sysctls"},
		"SysfsConfig":              {"machine.sysfs"},
		"RegistryMirrorConfig":     {"machine.registries"},
		"VolumeConfig":             {"machine.systemDiskEncryption"},
		"KubePrismConfig":          {"machine.features"},
		"UdevRulesConfig":          {"machine.udev"},
		"KernelModuleConfig":       {"machine.kernel"},
		"CRIBaseRuntimeSpecConfig": {"machine.baseRuntimeSpecOverrides"},
		"KubeClusterConfig":        {"cluster.clusterName", "cluster.controlPlane"},
		"KubeNetworkConfig":        {"cluster.network"},
		"KubeEtcdEncryptionConfig": {"cluster.aescbcEncryptionSecret", "cluster.secretboxEncryptionSecret"},
		"KubeAPIServerCAConfig":    {"cluster.ca", "cluster.acceptedCAs"},
		"KubeAggregatorCAConfig":   {"cluster.aggregatorCA"},
		"KubeServiceAccountConfig": {"cluster.serviceAccount"},
		"KubeAPIServerConfig":      {"cluster.apiServer"},
		"KubeSchedulerConfig":      {"cluster.scheduler", "machine.controlPlane"},
		"KubeControllerManagerConfig": {
			"cluster.controllerManager",
		},
		"KubeProxyConfig":            {"cluster.proxy"},
		"KubeCoreDNSConfig":          {"cluster.coreDNS"},
		"DiscoveryServiceConfig":     {"cluster.discovery"},
		"DiscoveryIdentityConfig":    {"cluster.id", "cluster.secret"},
		"KubeExternalManifestConfig": {"cluster.extraManifests", "cluster.extraManifestHeaders"},
		"KubeInlineManifestConfig":   {"cluster.inlineManifests"},
	}
}
