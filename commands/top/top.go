// Package top holds `talosmate top`, a live view for a person. What it shows is what other commands read; nothing else
// depends on it.
package top

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Sources are the readings of other commands. Only one of them runs at a time: they share the command's call.
type Sources struct {
	Health   func(*cmdutil.Call) (health.Result, error)               // Of `health`.
	Etcd     func(*cmdutil.Call) ([]talos.EtcdStatus, error)          // Of `etcd status`; the error is the answer if it is no.
	Upgrade  func(*cmdutil.Call) (rollout.StatusResult, error)        // Of `upgrade status`.
	Describe func(c *cmdutil.Call, t talos.Target, w io.Writer) error // Of `describe node`.
}

// answerWithin bounds the answer of a node or of the cluster, unless --timeout is given: a view that stands still for
// longer looks dead.
const answerWithin = 5 * time.Second

// NewCmd makes the command.
func NewCmd(f *cmdutil.Factory, src Sources) *cmdutil.Cmd {
	var interval time.Duration

	return cmdutil.New(f, cmdutil.Command{
		Use: "top", Short: "Show the cluster live, for a person at a terminal",
		Long: "Show the cluster live, for a person at a terminal: nodes with their stage, version, processors, memory, disk\n" +
			"and etcd, the health checks that do not pass, and a running upgrade. It reads what `health`, `etcd status`,\n" +
			"`upgrade status`, `system` and `logs` read. A node has 5s to answer unless --timeout is given; one that does not is\n" +
			"asked less and less often, at least twice a minute.\n\n" +
			"Keys: up and down choose a node, enter or d describes it, l shows its logs, s and r sort, / filters,\n" +
			"? explains, q quits. Programs use `talosmate health --watch -o ndjson` and its siblings.",
		Example: "  talosmate top\n" +
			"  talosmate top --workers --interval 5s",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultCluster},
		Flags: func(fs *cmdutil.Flags) {
			fs.Positive(&interval, "interval", 2*time.Second, "how often each node is asked")
		},
	}, cmdutil.NoDocument(), func(c *cmdutil.Call) error { return run(c, src, interval, f.Now) })
}

func run(c *cmdutil.Call, src Sources, interval time.Duration, now func() time.Time) error {
	forPrograms := func(format string, args ...any) error {
		return errs.Usagef(format, args...).
			WithHint("talosmate health --watch -o ndjson")
	}

	if !c.RawOutput() {
		return forPrograms("top draws on a terminal and has no -o and no --query")
	}

	in, out, ok := c.IO.Screen()
	if !ok {
		return forPrograms("top needs a terminal that can be drawn on")
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	limit := answerWithin
	if c.Cmd.Flags().Changed("timeout") {
		limit = c.Timeout()
	}

	cluster.Options.Timeout = limit

	reader := &reader{call: c, cluster: cluster, src: src, limit: limit, slots: make(chan struct{}, max(1, cluster.Options.Concurrency))}

	members, err := reader.members()
	if err != nil {
		return err // before the screen is touched
	}

	options := []tea.ProgramOption{tea.WithContext(c.Context()), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()}
	if !c.IO.Color {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}

	m := newModel(reader, cluster.Context.Name, interval, now, c.IO.Color)
	m.setMembers(members)
	m.takeWarnings = c.HoldWarnings()

	_, err = tea.NewProgram(m, options...).Run()

	switch {
	case c.Context().Err() != nil:
		return context.Cause(c.Context())
	case m.interrupted:
		return errs.New(errs.Interrupted, "interrupted")
	default:
		return err
	}
}

// reader asks the cluster.
type reader struct {
	call    *cmdutil.Call
	cluster *talos.Cluster
	src     Sources
	limit   time.Duration
	slots   chan struct{} // Bounds the nodes that are asked at once.
	sources sync.Mutex    // Held by the reading of another command that runs.
}

// from reads what another command reads; a panic is an error.
func from[T any](r *reader, read func(*cmdutil.Call) (T, error)) (value T, err error) {
	r.sources.Lock()
	defer r.sources.Unlock()

	err = errs.Safely(func() (err error) {
		value, err = read(r.call)

		return err
	})

	return value, err
}

// members lists the nodes that are shown: those that the flags name, or all.
func (r *reader) members() ([]talos.Member, error) {
	list, err := from(r, func(c *cmdutil.Call) ([]talos.Member, error) { return r.cluster.Relist(c.Context()) })
	if err != nil {
		return nil, err
	}

	sel := r.call.Selection()
	if !sel.Explicit() {
		if len(list) == 0 {
			return nil, talos.ErrNoMembers()
		}

		return list, nil
	}

	set, err := r.cluster.Targets(r.call.Context(), sel, target.DefaultNone)
	if err != nil {
		return nil, err
	}

	for _, t := range set.Nodes {
		if !slices.ContainsFunc(list, func(m talos.Member) bool { return m.Is(t) }) {
			list = append(list, talos.Member{NodeRef: talos.NodeRef{Node: t.Address, Hostname: t.Hostname}, Type: t.Type})
		}
	}

	return slices.DeleteFunc(list, func(m talos.Member) bool { return !slices.ContainsFunc(set.Nodes, m.Is) }), nil
}

// sample is what one node said.
type sample struct {
	version, stage string
	ready          bool
	services       []talos.Service
	memory, disk   float64 // Used, 0 to 1; negative for unknown.
	load           float64
	times          talos.CPUTimes
	at             time.Time
}

// node asks one node. The error says why it gave no sample; what a node that answers cannot tell is unknown.
func (r *reader) node(t talos.Target) (s sample, err error) {
	ctx := r.call.Context()

	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return s, context.Cause(ctx)
	}

	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()

	s = sample{memory: -1, disk: -1, load: -1}
	n := r.cluster.Node(t)

	err = errs.Safely(func() error {
		v, err := n.Version(ctx)
		if err != nil {
			return err
		}

		s.version = v.Tag

		if status, err := n.MachineStatus(ctx); err == nil {
			s.stage, s.ready = status.Stage, status.Ready
		}

		s.services, _ = n.Services(ctx)
		s.times, _ = n.CPUTimes(ctx)
		s.at = time.Now()

		if m, err := n.Memory(ctx); err == nil && m.TotalBytes > 0 {
			s.memory = m.UsedRatio
		}

		if l, err := n.LoadAverage(ctx); err == nil {
			s.load = l.Load1
		}

		mounts, _ := n.Mounts(ctx)
		if at := slices.IndexFunc(mounts, func(m talos.Mount) bool { return m.MountedOn == "/var" && m.SizeBytes > 0 }); at >= 0 {
			s.disk = mounts[at].UsedRatio
		}

		return nil
	})

	return s, err
}

// Bounds of the log that is shown.
const (
	logLines = 500
	logBytes = 256 << 10
)

// log reads the end of a service's log.
func (r *reader) log(t talos.Target, service string) (text []byte, err error) {
	ctx, cancel := context.WithTimeout(r.call.Context(), r.limit)
	defer cancel()

	err = errs.Safely(func() error {
		return r.cluster.Node(t).Logs(ctx, talos.LogRequest{ID: service, Tail: logLines, Idle: r.limit}, func(chunk []byte) error {
			text = append(text, chunk...)
			text = text[max(0, len(text)-logBytes):]

			return nil
		})
	})
	if errors.Is(err, context.DeadlineExceeded) && len(text) > 0 {
		err = nil
	}

	return text, err
}
