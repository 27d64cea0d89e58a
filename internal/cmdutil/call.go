package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/browser"
	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/audit"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Call is one run of one command: its arguments, its printer, and the cluster once it is asked for.
type Call struct {
	Spec    Spec
	Cmd     *cobra.Command
	Args    []string
	Typed   string // What is completed, as far as it is typed.
	IO      *iostreams.Streams
	Printer *output.Printer

	Overrides gate.Overrides // The gates that the user passes on purpose.
	DryRun    bool

	completes string // The flag whose value is completed, empty for an argument.

	factory  *Factory
	file     *settingsFile
	settled  []settled                // The flags that every command has, and its own.
	settings map[string]string        // Which flags a setting gave a value, and which setting.
	shell    cobra.ShellCompDirective // What the shell does with the candidates of a completion.
	ctx      context.Context          //nolint:containedctx // lives exactly as long as the command, as cobra's own does
	config   *config.Config
	cluster  *talos.Cluster
	own      *talos.Cluster // Of the talosconfig at hand, beside an insecure one.
	targets  target.Set
	kube     atomic.Pointer[kube.Client]
	sink     progress.Sink
	// Nodes are asked side by side, and any of them may be the first with something to tell.
	sinkOnce sync.Once
	// A node's kubeconfig that must not be used is reported once.
	untrusted sync.Once
	begun     atomic.Bool
	printed   bool
	notes     *notes // What a watch warned of; nil for any other command.

	log       *audit.Log // nil without --audit-log
	beginOnce sync.Once
	beginErr  error
	acts      []string // What a change acts on, where the chosen nodes do not say it.
}

// Tree is the whole command tree.
func (c *Call) Tree() *Cmd { return c.factory.Tree() }

// Context ends with the process's first interrupt.
func (c *Call) Context() context.Context { return c.ctx }

// Printed reports whether a result is on stdout already.
func (c *Call) Printed() bool { return c.printed }

// ChangeInFlight reports whether something that changes state may have been sent.
func (c *Call) ChangeInFlight() bool { return c.begun.Load() }

// BeginChange marks that from now on a request may change state. Where that cannot be logged, the connections send
// no such request.
func (c *Call) BeginChange() { _ = c.Begin() }

// Begin is BeginChange for what does not use our connections: an error means that nothing may be changed.
func (c *Call) Begin() error {
	if c.DryRun {
		return nil
	}

	c.beginOnce.Do(func() {
		if c.log != nil {
			if err := c.log.Begin(c.record()); err != nil {
				c.beginErr = errs.Usagef("%w", err).WithHint("nothing was sent: a change that cannot be logged is not begun")

				return
			}
		}

		c.begun.Store(true)
	})

	return c.beginErr
}

// ActsOn names the nodes that a change acts on, for the audit log, where they were not chosen by flags.
func (c *Call) ActsOn(nodes []string) { c.acts = nodes }

// mayBegin is what the connections of a change call before each request that may change something; nil for reads.
func (c *Call) mayBegin() func() error {
	if c.Spec.Kind == Read || c.DryRun {
		return nil
	}

	return c.Begin
}

func (c *Call) prepare() error {
	err := resolveAliases(c.Cmd.Flags())
	if err != nil {
		return err
	}

	if err = c.loadSettings(); err != nil {
		return err
	}

	if c.Printer, err = c.factory.printer(c.Cmd.Flags(), c.Spec); err != nil {
		return err
	}

	c.Printer.Warn = c.Warn

	if c.Printer.Limit != (output.Limit{}) {
		c.Printer.Narrow = c.narrow()
	}

	if err = c.wholeFirst(); err != nil {
		return err
	}

	if off, _ := c.Cmd.Flags().GetBool("no-color"); off {
		c.IO.Color = false
	}

	if c.IO.OutTTY {
		c.Printer.Screen = func() (int, bool) {
			width, _ := c.IO.Size()

			return width, c.IO.Color
		}
	}

	return nil
}

// guard applies what can be decided from the command line alone.
func (c *Call) guard() error {
	if err := checkValues(c.Cmd.CommandPath(), c.Cmd.Flags(), c.Spec.Kind != Read, c.settings); err != nil {
		return err
	}

	if c.Spec.Kind == Read {
		return nil
	}

	flags := c.Cmd.Flags()
	c.DryRun, _ = flags.GetBool("dry-run")

	if flags.Lookup("apply") != nil {
		apply, _ := flags.GetBool("apply") // such a command only previews without it
		c.DryRun = c.DryRun || !apply
	}

	if flags.Lookup("override") != nil {
		codes, _ := flags.GetStringSlice("override")
		c.Overrides = codes

		if err := c.Overrides.Validate(); err != nil {
			return err
		}
	}

	if readOnly, _ := flags.GetBool("read-only"); readOnly && !c.DryRun {
		return gate.New(gate.ReadOnly, gate.Refuse, "", "changes are switched off by --read-only or $TALOSMATE_READ_ONLY").Refusal()
	}

	if err := c.confirmable(); err != nil {
		return err
	}

	if !c.Spec.Offline && !c.Spec.Local && !c.Spec.Named && !c.previews() {
		if sel := c.Selection(); !sel.Explicit() {
			return c.noNodes()
		} else if c.Spec.OneNode && (len(sel.Nodes) != 1 || sel.All || sel.ControlPlanes || sel.Workers) {
			return errs.Usagef("%s acts on exactly one node", c.Cmd.CommandPath()).WithHint("%s", c.Again("-n", "NODE"))
		}
	}

	return nil
}

func (c *Call) noNodes() error {
	err := errs.Usagef("no nodes chosen (-n, --controlplanes, --workers or --all-nodes): a command that changes something never picks nodes automatically")

	for _, flag := range selectors() {
		if value, set := c.IO.Env(variable(flag)); set && value != "" {
			return err.WithHint("$%s is for commands that read: name the nodes with -n ADDRESS or HOSTNAME", variable(flag))
		}
	}

	return err.WithHint("%s", c.Again("-n", "NODE"))
}

// previews reports whether the command only looks this time, and has nodes for that.
func (c *Call) previews() bool { return c.DryRun && c.Spec.Default != target.DefaultNone }

// confirmable refuses at once what nobody can confirm later.
func (c *Call) confirmable() error {
	yes, _ := c.Cmd.Flags().GetBool("yes")
	if c.Spec.Kind != Destructive || c.DryRun || yes || c.IO.InTTY {
		return nil
	}

	return gate.New(gate.NotConfirmed, gate.Refuse, "", "%s is destructive and there is no terminal to confirm it on", c.Cmd.CommandPath()).
		WithRemedy("run it on a terminal, or with --yes").Refusal()
}

// Timeout is how long one node may take to answer.
func (c *Call) Timeout() time.Duration {
	limit, _ := c.Cmd.Flags().GetDuration("timeout")

	return limit
}

// Selection is what the flags say about nodes.
func (c *Call) Selection() target.Selection {
	f := c.Cmd.Flags()

	var s target.Selection

	s.Nodes, _ = f.GetStringSlice("nodes")
	s.ControlPlanes, _ = f.GetBool("controlplanes")
	s.Workers, _ = f.GetBool("workers")
	s.All, _ = f.GetBool("all-nodes")

	return s
}

// Cluster gives the cluster of the chosen context, dialling nothing yet. For a change it first checks the
// certificate's roles against the command's.
func (c *Call) Cluster() (*talos.Cluster, error) {
	if c.cluster != nil {
		return c.cluster, nil
	}

	f := c.Cmd.Flags()

	var o conn.Options

	o.Endpoints, _ = f.GetStringSlice("endpoints")
	o.Insecure, _ = f.GetBool("insecure")
	o.Fingerprint, _ = f.GetString("cert-fingerprint")
	o.Direct, _ = f.GetBool("direct")
	o.Timeout, _ = f.GetDuration("timeout")
	o.Concurrency, _ = f.GetInt("concurrency")
	o.Needs, o.Since, o.Begin = c.Spec.Roles, c.Spec.Since, c.mayBegin()

	o.Omni = c.Omni()

	var err error
	if o.Allowed, err = c.allowed(); err != nil {
		return nil, err
	}

	if verbose, _ := f.GetBool("verbose"); verbose {
		o.Trace = c.IO.Err
	}

	var tc *config.Context

	source := "--insecure"

	if !o.Insecure {
		if tc, err = c.Talosconfig(); err != nil {
			return nil, err
		}

		source = c.config.Path
		if source == "" {
			source = string(c.config.Origin)
		}
	}

	cluster, err := talos.NewCluster(tc, source, o)
	if err != nil {
		return nil, err
	}

	if err = cluster.SignIn(c.ctx); err != nil {
		return nil, err
	}

	c.cluster = cluster

	return cluster, nil
}

// Permit refuses a node that may not be touched, for commands whose arguments name what they act on.
func (c *Call) Permit(t target.Target) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	return cluster.Permit(t)
}

// allowed are the lists of nodes that may be asked: the user's, and that of the program that runs the command line.
func (c *Call) allowed() ([]target.Allowed, error) {
	var out []target.Allowed

	if entries, _ := c.Cmd.Flags().GetStringSlice(allowedNodes); len(entries) > 0 {
		own, err := target.ParseAllowed(entries)
		if err != nil {
			return nil, err
		}

		out = append(out, own)
	}

	if len(c.factory.Limits.Nodes) > 0 {
		out = append(out, c.factory.Limits.Nodes)
	}

	return out, nil
}

// Omni says how requests to Omni are signed. Only a person at a terminal can confirm a new key.
func (c *Call) Omni() conn.Omni {
	o := conn.Omni{KeysDir: filepath.Dir(config.HomePath(c.IO.Env))}

	for _, name := range []string{conn.EnvSideroServiceAccount, conn.EnvOmniServiceAccount} {
		if key, set := c.IO.Env(name); set && o.ServiceAccount == "" {
			o.ServiceAccount = key
		}
	}

	if c.IO.InTTY && c.IO.ErrTTY {
		o.Login = func(page string) {
			fmt.Fprintf(c.IO.Err, "confirm the key of this machine at %s\n", page)

			if program, _ := c.IO.Env("BROWSER"); program != "echo" {
				browser.Stdout, browser.Stderr = io.Discard, io.Discard
				_ = browser.OpenURL(page) // the address is shown as well
			}
		}
	}

	return o
}

// OwnCluster gives the cluster of the talosconfig at hand for an --insecure command, if its authority is the
// given one (PEM in base64); else nil. It is closed with the command.
func (c *Call) OwnCluster(authority string) *talos.Cluster {
	if c.own != nil && c.own.Context.Trusts(authority) {
		return c.own
	}

	cfg, err := c.factory.LoadTalosconfig(c.Cmd.Flags())
	if err != nil {
		return nil
	}

	name, _ := c.Cmd.Flags().GetString("context")

	tc, err := cfg.Pick(name)
	if err != nil || !tc.Trusts(authority) {
		return nil
	}

	o := c.cluster.Options
	o.Insecure, o.Fingerprint = false, ""

	own, err := talos.NewCluster(tc, cfg.Path, o)
	if err != nil {
		return nil
	}

	c.own = own

	return own
}

// Talosconfig reads the talosconfig and picks the context, with its warnings on stderr.
func (c *Call) Talosconfig() (*config.Context, error) {
	cfg, err := c.factory.LoadTalosconfig(c.Cmd.Flags())
	if err != nil {
		return nil, err
	}

	for _, w := range cfg.Warnings {
		c.Warn("%s", w)
	}

	name, _ := c.Cmd.Flags().GetString("context")

	tc, err := cfg.Pick(name)
	if err != nil {
		return nil, err
	}

	if allowed := c.factory.Limits.Contexts; len(allowed) > 0 && !slices.Contains(allowed, tc.Name) {
		return nil, gate.New(gate.NotAllowed, gate.Refuse, "", "context %q is not among the allowed contexts", tc.Name).
			WithRemedy("allowed: %s", strings.Join(allowed, ", ")).Refusal()
	}

	c.config, c.Printer.Context = cfg, tc.Name

	if left := tc.NotAfter.Sub(c.factory.Now()); !tc.NotAfter.IsZero() && left < 30*24*time.Hour {
		verb := "expires"
		if left < 0 {
			verb = "expired"
		}

		c.Warn("the client certificate of context %q %s %s", tc.Name, verb, tc.NotAfter.UTC().Format(time.RFC3339))
	}

	if c.Spec.Kind != Read && !c.Spec.Offline {
		if !tc.HasAnyRole(c.Spec.Roles) {
			return nil, gate.New(gate.RoleMissing, gate.Refuse, "", "the certificate has %s; this command needs %s",
				tc.RoleList(), strings.Join(c.Spec.Roles, " or ")).WithRemedy("use a talosconfig with that role").Refusal()
		}

		if cfg.Origin == config.OriginProject {
			c.Warn("changing cluster %q (context %q, %s)", clusterName(tc), tc.Name, cfg.Path)
		}
	}

	return tc, nil
}

// Targets resolves the nodes and notes them for the document.
func (c *Call) Targets() (target.Set, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return target.Set{}, err
	}

	return c.resolved(cluster.Targets(c.ctx, c.Selection(), c.byDefault()))
}

// byDefault is which nodes are meant where none is chosen.
func (c *Call) byDefault() target.Default {
	if c.Spec.Kind != Read && !c.previews() {
		return target.DefaultNone
	}

	return c.Spec.Default
}

// askable are the nodes of a read. They are resolved, or asked by their addresses while they are being resolved. A watch asks the
// same nodes again.
func (c *Call) askable() ([]talos.Target, *talos.Begun, error) {
	if len(c.targets.Nodes) > 0 {
		return c.targets.Nodes, nil, nil
	}

	cluster, err := c.Cluster()
	if err != nil {
		return nil, nil, err
	}

	if c.Spec.Kind == Read {
		if begun := cluster.Begin(c.ctx, c.Selection(), c.byDefault()); begun != nil {
			return begun.Nodes, begun, nil
		}
	}

	targets, err := c.Targets()

	return targets.Nodes, nil, err
}

// resolved notes the nodes for the document, with what is to be said about them.
func (c *Call) resolved(set target.Set, err error) (target.Set, error) {
	if c.targets = set; err != nil {
		return set, err
	}

	if outside := c.targets.Outside; len(outside) > 0 {
		if c.Spec.Kind != Read && c.Selection().Explicit() {
			return c.targets, c.Permit(outside[0]) // all of them were asked for
		}

		c.Warn("not asked, because they are not among the allowed nodes: %s", strings.Join(lists.Map(outside, target.Target.Name), ", "))
	}

	c.Printer.Selection = &output.Selection{Source: c.targets.Source, Nodes: c.targets.Addresses()}
	c.warnAboutDiscovery()

	if len(c.targets.Nodes) == 0 {
		return c.targets, errs.Usagef("the selection matches no node")
	}

	if c.byDefault() == target.DefaultMembers && c.targets.Source == target.SourceContext && !c.Printer.Structured() {
		c.Warn("only the nodes of the context are asked: %s; -A asks all", strings.Join(lists.Map(c.targets.Nodes, target.Target.Name), ", "))
	}

	c.warnAboutVersions()

	return c.targets, nil
}

// warnAboutDiscovery speaks where discovery does not list a control plane that etcd has: it may leave out workers too,
// which nobody else lists.
func (c *Call) warnAboutDiscovery() {
	chosen := c.Selection()
	noWorkers := chosen.ControlPlanes && !chosen.Workers && !chosen.All || !chosen.Explicit() && c.byDefault() == target.DefaultControlPlanes

	if c.targets.Source != target.SourceMembers || noWorkers {
		return
	}

	members, err := c.cluster.Members(c.ctx)
	if err != nil {
		return
	}

	if unlisted := lists.Filter(members, func(m talos.Member) bool { return m.Source == target.FromEtcd }); len(unlisted) > 0 {
		c.Warn("discovery does not list %s, which etcd does: workers that it does not list either are not asked; name them with -n",
			lists.Join(unlisted, ", ", talos.Member.NodeName))
	}
}

// warnAboutVersions speaks once when a member runs a release that this program is not made for.
func (c *Call) warnAboutVersions() {
	if c.cluster.Options.Insecure {
		return
	}

	members, err := c.cluster.Members(c.ctx)
	if err != nil {
		return
	}

	for _, m := range members {
		if !release.Supported(m.TalosVersion) {
			c.Warn("%s runs Talos %s; this program is made for %s", m.Hostname, m.TalosVersion, release.Range())

			return
		}
	}
}

// Progress is where long work tells what it does. It is closed with the command.
func (c *Call) Progress() progress.Sink {
	c.sinkOnce.Do(func() {
		mode, _ := c.Cmd.Flags().GetString("progress")
		c.sink = c.factory.progress(mode)
	})

	return c.sink
}

// Warn writes a warning on stderr, where progress has no place for it.
func (c *Call) Warn(format string, args ...any) {
	text := iostreams.Line(fmt.Sprintf(format, args...))

	if c.notes != nil {
		c.notes.add(text)

		return
	}

	if w, ok := c.Progress().(progress.Warner); ok {
		w.Warn(text)

		return
	}

	fmt.Fprintf(c.IO.Err, "warning: %s\n", text)
}

// Confirm asks for subject (a node's or the cluster's name) to be typed, or wants --yes without a terminal.
func (c *Call) Confirm(action, subject string) error {
	if c.DryRun {
		return nil
	}

	yes, _ := c.Cmd.Flags().GetBool("yes")
	project := c.config != nil && c.config.Origin == config.OriginProject

	if project {
		subject = clusterName(c.cluster.Context)
		yes = yes && c.Cmd.Flags().Changed("context")
	}

	if yes {
		return nil
	}

	refuse := func(format string, args ...any) error {
		v := gate.New(gate.NotConfirmed, gate.Refuse, "", format, args...).WithRemedy("run it on a terminal, or with --yes")
		if project {
			v = v.WithRemedy("the talosconfig comes from the project folder: give --yes together with --context")
		}

		return v.Refusal()
	}

	if !c.IO.InTTY {
		return refuse("%s is destructive and there is no terminal to confirm it on", action)
	}

	// What cannot be typed is shown, and wanted, as it can be shown.
	subject = iostreams.Line(subject)

	fmt.Fprintf(c.IO.Err, "%s\nType %s to continue: ", iostreams.Line(action), subject)

	typed, err := c.IO.ReadLine(c.ctx)
	if err != nil {
		fmt.Fprintln(c.IO.Err)

		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}

		return refuse("%s was not confirmed", action)
	}

	if strings.TrimSpace(typed) != subject {
		return refuse("%q is not %q", strings.TrimSpace(typed), subject)
	}

	return nil
}

func clusterName(tc *config.Context) string {
	if tc == nil {
		return ""
	}

	if tc.Cluster != "" {
		return tc.Cluster
	}

	return tc.Name
}

// settle adds to a panic that a change was in flight, so that its outcome is not known.
func (c *Call) settle(err error) error {
	var p *errs.Panic
	if !c.ChangeInFlight() || !errors.As(err, &p) || errs.ExitCode(err) == errs.Unknown {
		return err
	}

	return errors.Join(err, errs.New(errs.Unknown, "cannot tell what the change did: the program failed before it could read it back").
		WithKind(errs.KindUnknownOutcome).WithHint("read the state back before you repeat the change"))
}

// openAudit opens the audit log of a change: one that cannot be opened refuses the change.
func (c *Call) openAudit() error {
	path, _ := c.Cmd.Flags().GetString("audit-log")
	if c.Spec.Kind == Read || path == "" {
		return nil
	}

	var err error
	if c.log, err = audit.Open(path); err != nil {
		return errs.Usagef("%w", err).WithHint("a change that cannot be logged is not begun: name another file with --audit-log")
	}

	return nil
}

// Asked is the command line, without secrets: the command, its flags and its arguments.
func (c *Call) Asked() []string {
	words := strings.Fields(c.Cmd.CommandPath())

	return append(words, audit.Redact(append(changedFlags(c.Cmd), c.Args...))...)
}

func (c *Call) record() audit.Record {
	nodes := c.targets.Addresses()
	if len(nodes) == 0 {
		nodes = append([]string{}, c.acts...)
	}

	return audit.Record{
		Time: c.factory.Now().UTC(), Context: c.Printer.Context, Nodes: nodes, Command: c.Cmd.CommandPath(),
		Arguments: audit.Redact(append(changedFlags(c.Cmd), c.Args...)), Overridden: append([]string{}, c.Overrides...), DryRun: c.DryRun,
	}
}

// EndAudit writes how the command ended into the audit log, and gives that end.
func (c *Call) EndAudit(err error) error {
	if c.beginErr != nil {
		err = c.beginErr // nothing was sent, even where the operation reports another error
	}

	if c.log == nil {
		return err
	}

	code := errs.ExitCode(err)
	if c.ctx.Err() != nil {
		code = errs.Interrupted
	}

	if auditErr := c.log.End(c.record(), code.Name(), int(code), err); auditErr != nil {
		c.Warn("%v", auditErr)
	}

	c.log = nil

	return err
}

func (c *Call) close() {
	c.endProgress()

	for _, cluster := range []*talos.Cluster{c.cluster, c.own} {
		if cluster != nil {
			_ = cluster.Close() // nothing is left to be said to the cluster
		}
	}
}
