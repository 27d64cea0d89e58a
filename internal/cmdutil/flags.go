package cmdutil

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/talos"
)

// Flags are the flags of a command with how they complete and what their values must be.
type Flags struct {
	*pflag.FlagSet

	factory *Factory
}

// Bounds of a flag's value, kept as annotations of the flag.
const (
	positive    = "talosmate/positive"
	notNegative = "talosmate/not-negative"
	exclusive   = "talosmate/exclusive" // With the names of the flags that do not go together.
)

// KubernetesFlag is the switch that stands, in every command that has it, for what belongs to Kubernetes and not to Talos
// itself. Only Flags.Kubernetes and Flags.Containerd add it.
const (
	KubernetesFlag      = "kubernetes"
	KubernetesShorthand = "k"
)

// drainWithin is how long the evictions, and then the volumes, of a node may take unless the user says otherwise.
const drainWithin = 5 * time.Minute

// Positive adds a duration that must be longer than nothing.
func (fs *Flags) Positive(p *time.Duration, name string, def time.Duration, usage string) {
	fs.DurationVar(p, name, def, usage)
	fs.annotate(name, positive)
}

// NotNegative demands of numbers and durations that they are zero or more.
func (fs *Flags) NotNegative(names ...string) {
	for _, name := range names {
		fs.annotate(name, notNegative)
	}
}

// Complete makes the value of a flag complete from a function.
func (fs *Flags) Complete(name string, fn CompletionFunc) {
	if fs.Lookup(name).Value.Type() == "stringSlice" {
		fn = afterComma(fn)
	}

	fs.factory.completions[fs.Lookup(name)] = completion(fs.factory, name, unbounded, fn)
}

// Words makes the value of a flag complete from words.
func (fs *Flags) Words(name string, words ...string) { fs.Complete(name, Words(words...)) }

// Choice adds a flag that takes one of the allowed words, and completes them.
func (fs *Flags) Choice(p *string, name, def, usage string, allowed ...string) {
	*p = def
	fs.Var(&choice{value: p, allowed: allowed}, name, fmt.Sprintf("%s: %s", usage, strings.Join(allowed, ", ")))
	fs.Words(name, allowed...)
}

// Kubernetes adds the switch for what belongs to Kubernetes: pods and their containers, images and sockets.
func (fs *Flags) Kubernetes(p *bool, usage string) {
	fs.BoolVarP(p, KubernetesFlag, KubernetesShorthand, false, usage)
}

// Containerd adds the choice of a node's containerd instance, --namespace, and the same choice as a switch.
func (fs *Flags) Containerd(p *string, usage string, more ...string) {
	fs.Choice(p, "namespace", talos.NamespaceCRI, usage, append([]string{talos.NamespaceCRI, talos.NamespaceSystem}, more...)...)
	fs.VarPF(&ofKubernetes{p}, KubernetesFlag, KubernetesShorthand, "Kubernetes' own, as --namespace "+talos.NamespaceCRI).NoOptDefVal = "true"
	fs.Exclusive("namespace", KubernetesFlag)
}

// Exclusive refuses more than one of the flags.
func (fs *Flags) Exclusive(names ...string) {
	for _, name := range names {
		must(fs.SetAnnotation(name, exclusive, names))
	}
}

// Inverse adds a switch that is on where the variable is false.
func (fs *Flags) Inverse(p *bool, name, usage string) {
	fs.VarPF(&inverse{p}, name, "", usage).NoOptDefVal = "true"
}

// RebootMode adds the flag that says how a node reboots.
func (fs *Flags) RebootMode(p *string) {
	fs.Choice(p, "reboot-mode", talos.RebootDefault, "how to reboot", talos.RebootDefault, talos.RebootPowercycle, talos.RebootForce)
}

// Drain adds the flags that limit a drain.
func (fs *Flags) Drain(evictions *time.Duration, volumes *kube.VolumeWait) {
	fs.Positive(evictions, "drain-timeout", drainWithin, "how long all evictions of a node together may take")
	fs.BoolVar(&volumes.Wait, "wait-volumes", true, "after the drain, wait until the volumes of the evicted pods are detached")
	fs.Positive(&volumes.Timeout, "volumes-timeout", drainWithin, "how long the volumes of a drained node may take to be detached")
}

// Renamed keeps the old name of a flag as a hidden alias.
func (fs *Flags) Renamed(old, name string) {
	fs.alias(old, name, func(value string) (string, error) { return value, nil })
}

// Negated keeps an old flag as a hidden alias that means the opposite of the new one.
func (fs *Flags) Negated(old, name string) {
	fs.alias(old, name, func(value string) (string, error) {
		on, err := strconv.ParseBool(value)

		return strconv.FormatBool(!on), err
	})
}

func (fs *Flags) alias(old, name string, translate func(string) (string, error)) {
	target := fs.Lookup(name)
	fs.AddFlag(&pflag.Flag{
		Name: old, Usage: "--" + name, Hidden: true, NoOptDefVal: target.NoOptDefVal,
		Value: &alias{Value: target.Value, name: name, translate: translate},
	})
}

func (fs *Flags) annotate(name, key string) { must(fs.SetAnnotation(name, key, []string{"true"})) }

// must panics on what is a programming error, found by every test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// ofKind adds the flags that the kind of a command brings.
func (fs *Flags) ofKind(s Spec) {
	if s.Insecure {
		fs.Bool("insecure", false, "talk to a node in maintenance mode: dial it directly (-n), without a client certificate")
		fs.String("cert-fingerprint", "", "with --insecure: SHA-256 fingerprint that the node's certificate must have")
	}

	if s.Kind == Read {
		return
	}

	fs.Bool("dry-run", false, "show what would be done and change nothing")

	if !s.Offline && !s.Local {
		fs.StringSlice("override", nil, "pass this safety `GATE` on purpose, by code (repeatable; see talosmate help gates)")
		fs.Complete("override", CompleteGates)
	}

	fs.Bool("yes", false, "do not ask for confirmation")

	if s.Kind != Destructive {
		_ = fs.MarkHidden("yes") // such a change asks nothing; the flag is there, so that a script may give it to all
	}
}

// choice is the value of a flag that takes one of a few words.
type choice struct {
	value   *string
	allowed []string
}

// Choices lists the words that a flag may be, nil if it is not limited to some.
func Choices(f *pflag.Flag) []string {
	if c, ok := f.Value.(*choice); ok {
		return c.allowed
	}

	return nil
}

// String implements pflag.Value.
func (c *choice) String() string {
	if c.value == nil {
		return ""
	}

	return *c.value
}

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value. The value is checked with those of all flags, when the output format is known.
func (c *choice) Set(s string) error {
	*c.value = s

	return nil
}

// inverse is the value of a switch that is on where its variable is false.
type inverse struct{ off *bool }

// String implements pflag.Value.
func (v *inverse) String() string { return strconv.FormatBool(v.off != nil && !*v.off) }

// Type implements pflag.Value.
func (v *inverse) Type() string { return "bool" }

// Set implements pflag.Value.
func (v *inverse) Set(s string) error {
	on, err := strconv.ParseBool(s)
	*v.off = !on

	return err
}

// ofKubernetes is the value of a switch that chooses Kubernetes' containerd instance, and Talos's own where it is off.
type ofKubernetes struct{ namespace *string }

// String implements pflag.Value.
func (v *ofKubernetes) String() string {
	return strconv.FormatBool(v.namespace != nil && *v.namespace == talos.NamespaceCRI)
}

// Type implements pflag.Value.
func (v *ofKubernetes) Type() string { return "bool" }

// Set implements pflag.Value.
func (v *ofKubernetes) Set(s string) error {
	on, err := strconv.ParseBool(s)

	*v.namespace = talos.NamespaceSystem
	if on {
		*v.namespace = talos.NamespaceCRI
	}

	return err
}

// alias is the value of a flag under its old name.
type alias struct {
	pflag.Value

	name      string // The new name.
	translate func(string) (string, error)
	given     string // The translated value.
}

// Set implements pflag.Value.
func (a *alias) Set(s string) error {
	value, err := a.translate(s)
	if err != nil {
		return err
	}

	a.given = value

	return a.Value.Set(value)
}

// resolveAliases gives flags the values that were given under their old names.
func resolveAliases(flags *pflag.FlagSet) error {
	var wrong error

	flags.VisitAll(func(f *pflag.Flag) {
		old, ok := f.Value.(*alias)
		if !ok || !f.Changed || wrong != nil {
			return
		}

		if flags.Changed(old.name) {
			wrong = errs.Usagef("--%s is the old name of --%s: give one of them", f.Name, old.name)

			return
		}

		wrong = flags.Set(old.name, old.given)
	})

	return wrong
}

// CompleteFlags tells Cobra how the flags of the command complete that the words name. A flag without a completion of its
// own completes to nothing, since a shell would offer file names where a number or a name is wanted. Flags whose usage
// names a `file` or a `directory` keep the shell's files.
//
// Cobra keeps completion functions until the process ends. The function that is returned releases the command tree from it.
func (f *Factory) CompleteFlags(root *cobra.Command, words []string) (release func()) {
	cmd, _, err := root.Find(words)
	if err != nil {
		cmd = root
	}

	completions := map[string]cobra.CompletionFunc{}

	register := func(flag *pflag.Flag) {
		name := flag.Name
		kind, _ := pflag.UnquoteUsage(flag)

		switch fn, has := f.completions[flag]; {
		case has:
			completions[name] = fn
		case slices.Contains([]string{"file", "directory"}, strings.ToLower(kind)):
			return
		default:
			completions[name] = cobra.NoFileCompletions
		}

		must(cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completions[name](cmd, args, typed)
		}))
	}

	cmd.InheritedFlags().VisitAll(register)
	cmd.LocalFlags().VisitAll(register)

	return func() { clear(completions) }
}

// WaitFlags are the flags of a change that can be waited for.
type WaitFlags struct {
	Wait    bool
	Timeout time.Duration
}

// Add puts --wait and --wait-timeout on a command.
func (w *WaitFlags) Add(fs *Flags, what string, timeout time.Duration) {
	fs.BoolVar(&w.Wait, "wait", true, "wait until "+what)
	fs.Positive(&w.Timeout, "wait-timeout", timeout, "how long to wait for that")
}
