// Package kubeupgrade brings Kubernetes to another version: it checks the gates, takes the lock, and runs talosctl
// upgrade-k8s, whose text becomes events.
package kubeupgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Options say how Kubernetes is brought to another version.
type Options struct {
	To        string   // The Kubernetes version, with or without its v.
	Talosctl  string   // The program that does it.
	Arguments []string // What it is given before its own subcommand: talosconfig, context, endpoints, node.
	Extra     []string // What it is given after: --from and similar flags.
	DryRun    bool
	Overrides gate.Overrides
	// BeforeChange is called once, before talosctl is started; an error keeps it from being started.
	BeforeChange func() error
}

// Step is one line that talosctl printed, taken apart.
type Step struct {
	Time      time.Time `json:"time"`                // When it was printed.
	Component string    `json:"component,omitempty"` // What is being updated: kube-apiserver, kubelet, manifests, …
	Node      string    `json:"node,omitempty"`      // The node it is about.
	Message   string    `json:"message"`             // The rest of the line.
}

// Result is what was done to Kubernetes.
type Result struct {
	Status         runbook.Status `json:"status"`          // ok, planned, refused, failed or interrupted.
	DryRun         bool           `json:"dry_run"`         // Whether talosctl was to change nothing.
	From           string         `json:"from"`            // The version before, as talosctl detected it.
	To             string         `json:"to"`              // The version wanted.
	Talosctl       string         `json:"talosctl"`        // The program that was run.
	Command        []string       `json:"command"`         // Its arguments; never null.
	ExitCode       int            `json:"exit_code"`       // Its exit code; -1 when it was not run, or was killed.
	Steps          []Step         `json:"steps"`           // What it said; never null.
	Updated        []string       `json:"updated"`         // COMPONENT on NODE, as it said; never null.
	Locked         bool           `json:"locked"`          // Whether the cluster's lock was held.
	Gates          []gate.Verdict `json:"gates"`           // What the gates said; never null.
	ElapsedSeconds float64        `json:"elapsed_seconds"` // How long it took.
	Hint           string         `json:"hint,omitempty"`  // What to do now.
	Error          string         `json:"error,omitempty"` // What went wrong.
}

// FindTalosctl finds the engine: the named program, else talosctl on PATH.
func FindTalosctl(name string) (string, error) {
	if name == "" {
		name = "talosctl"
	}

	path, err := exec.LookPath(name)
	if err != nil {
		return "", errs.Usagef("cannot find talosctl, which upgrades Kubernetes: %w", err).
			WithHint("install it (https://www.talos.dev/latest/talos-guides/install/talosctl/), or name it with --talosctl PATH")
	}

	return path, nil
}

// versionWait is how long talosctl may take to say its version.
const versionWait = 10 * time.Second

// judgeTalosctl refuses a talosctl that is of an older minor release than a node: it does not know all of the documents
// that the node's configuration may have, and would fail in the middle.
func judgeTalosctl(ctx context.Context, c *rollout.Cluster, path string, sink progress.Sink) error {
	ctx, cancel := context.WithTimeout(ctx, versionWait)
	defer cancel()

	cmd := exec.CommandContext(ctx, path, "version", "--client")
	cmd.WaitDelay = time.Second

	said, err := cmd.Output()
	found := regexp.MustCompile(`Tag:\s+(v\d+\.\d+\.\d+\S*)`).FindSubmatch(said)

	if found == nil {
		message := "its version is not known"
		if err != nil {
			message += ": " + err.Error()
		}

		sink.Emit(progress.Event{Time: c.Now(), Stage: "talosctl", Message: message})

		return nil
	}

	version := string(found[1])

	for _, m := range c.Members {
		if release.Minor(version) < release.Minor(m.TalosVersion) {
			return errs.Usagef("talosctl %s is older than Talos %s on %s", version, m.TalosVersion, m.Hostname).
				WithHint("install talosctl %s, or name it with --talosctl PATH", m.TalosVersion)
		}
	}

	return nil
}

// Run checks the gates and runs talosctl. The result is valid also on error.
func Run(ctx context.Context, c *rollout.Cluster, o Options, sink progress.Sink) (Result, error) {
	began := c.Now()
	version := strings.TrimPrefix(o.To, "v")
	res := Result{
		DryRun: o.DryRun, To: version, Talosctl: o.Talosctl, ExitCode: -1, Command: []string{}, Steps: []Step{}, Updated: []string{}, Gates: []gate.Verdict{},
	}

	var undo runbook.Undo

	err := undo.Around(ctx, runbook.UndoWithin, func() error { return run(ctx, c, o, version, sink, &res, &undo) })

	res.ElapsedSeconds = runbook.Seconds(c.Now().Sub(began))

	if err != nil {
		res.Error = err.Error()

		if hints := errs.Hints(err); len(hints) > 0 {
			res.Hint = hints[0]
		}
	}

	sink.Emit(progress.Event{Time: c.Now(), Stage: string(res.Status), Message: res.Error, Done: true, Failed: err != nil})

	return res, err
}

func run(ctx context.Context, c *rollout.Cluster, o Options, version string, sink progress.Sink, res *Result, undo *runbook.Undo) error {
	if err := judgeTalosctl(ctx, c, o.Talosctl, sink); err != nil {
		res.Status = runbook.Refused

		return err
	}

	res.Gates = append(gateRange(c, version), gateImages(ctx, c, version)...)
	res.Gates = append(res.Gates, upgrade.GateClient(c.Expires, c.Now(), 1, ""))
	res.Status = runbook.Refused

	if err := gate.Apply(res.Gates, o.Overrides); err != nil {
		return err
	}

	if !o.DryRun {
		held, v := clusterlock.Take(ctx, c.Lock, c.Holder.Command)
		verdicts := []gate.Verdict{v}
		err := gate.Apply(verdicts, o.Overrides)
		res.Gates = append(res.Gates, verdicts...)

		if err != nil {
			return err
		}

		if v.Verdict == gate.Warn {
			sink.Emit(progress.Event{Time: c.Now(), Stage: "lock", Message: v.Message})
		}

		if held != nil {
			res.Locked = true
			undo.Push("the cluster's lock", held.Release)
		}
	}

	res.Command = append(slices.Clone(o.Arguments), "upgrade-k8s", "--to", version)
	if o.DryRun {
		res.Command = append(res.Command, "--dry-run")
	}

	res.Command = append(res.Command, o.Extra...)

	if !o.DryRun && o.BeforeChange != nil {
		if err := o.BeforeChange(); err != nil {
			res.Status = runbook.Failed

			return err
		}
	}

	err := res.drive(ctx, c.Now, sink)

	switch {
	case ctx.Err() != nil:
		res.Status = runbook.Interrupted
		res.Hint = "what talosctl had updated stays; run the same command again to finish"

		return context.Cause(ctx)
	case err != nil:
		res.Status = runbook.Failed

		return err
	case o.DryRun:
		res.Status = runbook.Planned
	default:
		res.Status = runbook.OK
	}

	return nil
}

// gateRange checks the version against every member's Talos.
func gateRange(c *rollout.Cluster, version string) []gate.Verdict {
	var out []gate.Verdict

	for _, m := range c.Members {
		p, err := release.KubernetesRange(version, m.TalosVersion)

		switch {
		case err != nil:
			out = append(out, gate.New(gate.KubernetesRange, gate.Skip, m.Node, "%v", err))
		case !p.Supported:
			out = append(out, gate.New(gate.KubernetesRange, gate.Refuse, m.Node, "%s: %s", m.Hostname, p.Reason).
				WithRemedy("upgrade Talos first: talosmate upgrade apply"))
		case p.Fallback:
			out = append(out, gate.New(gate.KubernetesRange, gate.Warn, m.Node, "%s", p.Reason))
		default:
			out = append(out, gate.New(gate.KubernetesRange, gate.Pass, m.Node, "%s", p.Reason))
		}
	}

	return out
}

// gateImages asks the registries for what talosctl will have the nodes pull.
func gateImages(ctx context.Context, c *rollout.Cluster, version string) []gate.Verdict {
	if c.Image == nil {
		return nil
	}

	var out []gate.Verdict

	for _, repository := range []string{
		"registry.k8s.io/kube-apiserver", "registry.k8s.io/kube-controller-manager", "registry.k8s.io/kube-scheduler", "registry.k8s.io/kube-proxy",
		"ghcr.io/siderolabs/kubelet",
	} {
		ref := repository + ":v" + version
		_, err := c.Image(ctx, ref)

		switch {
		case err == nil:
			out = append(out, gate.New(gate.ImageMissing, gate.Pass, "", "%s exists", ref))
		case errors.Is(err, registry.ErrNotFound):
			out = append(out, gate.New(gate.ImageMissing, gate.Refuse, "", "%s does not exist", ref).WithRemedy("is the version published?"))
		case errors.Is(err, registry.ErrUnauthorised):
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, "", "the registry of %s does not let us look", ref))
		default:
			out = append(out, gate.New(gate.ImageMissing, gate.Warn, "", "the registry of %s cannot be reached from here; the nodes' own pulls will tell", ref))
		}
	}

	return out
}

// stopWait is how long talosctl may take to end after an interrupt.
const stopWait = 10 * time.Second

// drive runs talosctl and reads what it says.
func (r *Result) drive(ctx context.Context, now func() time.Time, sink progress.Sink) error {
	cmd := exec.CommandContext(ctx, r.Talosctl, r.Command...) //nolint:gosec // G204: the talosctl that the user chose or that is on PATH; no shell, and each value is one argument
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopWait

	pipe, feed := io.Pipe()
	cmd.Stdout, cmd.Stderr = feed, feed

	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot run %s: %w", r.Talosctl, err)
	}

	read := make(chan struct{})

	go func() {
		defer close(read)

		err := errs.Safely(func() error {
			r.read(pipe, now, sink)

			return nil
		})
		_ = pipe.CloseWithError(err) // never fails
	}()

	err := cmd.Wait()
	_ = feed.Close() // the reader sees the end
	<-read

	r.ExitCode = cmd.ProcessState.ExitCode()

	if err == nil {
		return nil
	}

	last := ""
	if len(r.Steps) > 0 {
		last = r.Steps[len(r.Steps)-1].Message
	}

	exit := errs.Failed
	if r.ExitCode > 1 && r.ExitCode < 126 {
		exit = errs.Code(r.ExitCode)
	}

	return errs.New(exit, "talosctl upgrade-k8s failed (%w): %s", err, last).
		WithHint("what it had updated stays; see to the cause and run the same command again")
}

// read takes talosctl's lines apart. Long lines are cut, and the rest of the stream is always drained.
func (r *Result) read(from io.Reader, now func() time.Time, sink progress.Sink) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)

	component := ""

	for lines.Scan() {
		step, ok := parseLine(lines.Text(), component)
		if !ok {
			continue
		}

		component = step.Component
		step.Time = now().UTC()
		r.Steps = append(r.Steps, step)

		if from, found := strings.CutPrefix(step.Message, "automatically detected the lowest Kubernetes version "); found {
			r.From = strings.TrimPrefix(from, "v")
		}

		if step.Message == "successfully updated" && step.Component != "" {
			r.Updated = append(r.Updated, step.Component+" on "+step.Node)
		}

		stage := step.Component
		if stage == "" {
			stage = "preflight"
		}

		sink.Emit(progress.Event{Time: step.Time, Node: step.Node, Stage: stage, Message: step.Message})
	}

	_, _ = io.Copy(io.Discard, from)
}

// parseLine understands what talosctl upgrade-k8s prints (Talos, pkg/cluster/kubernetes): a line
// `updating "kube-apiserver" to version "1.35.4"` opens a component, ` > "NODE": TEXT` and ` < "NODE": TEXT`
// tell about a node, ` > TEXT` about the component. Whatever else it prints is a message.
func parseLine(line, component string) (Step, bool) {
	line = strings.TrimRight(line, "\r \t")
	if strings.TrimSpace(line) == "" {
		return Step{}, false
	}

	if m := regexp.MustCompile(`^updating "?([a-z-]+)"?(?: to version "?[^"]*"?)?$`).FindStringSubmatch(line); m != nil {
		return Step{Component: m[1], Message: line}, true
	}

	if m := regexp.MustCompile(`^ ?[<>] "([^"]+)": (.*)$`).FindStringSubmatch(line); m != nil {
		return Step{Component: component, Node: m[1], Message: m[2]}, true
	}

	if m := regexp.MustCompile(`^ ?[<>] (.*)$`).FindStringSubmatch(line); m != nil {
		return Step{Component: component, Message: m[1]}, true
	}

	return Step{Component: component, Message: strings.TrimSpace(line)}, true
}
