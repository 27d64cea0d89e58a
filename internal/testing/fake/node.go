// Package fake simulates Talos nodes and a Kubernetes API in memory, for tests of operations: small state machines with
// the faults that a test scripts.
package fake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// What the nodes run, and how long they take.
const (
	Schematic   = "c9078f9419961640c712a8bf2bb9174933dfcf1da383fd8ea2b7dc21493f8bac"
	OldImage    = "factory.talos.dev/metal-installer/" + Schematic + ":v1.13.8"
	NewImage    = "factory.talos.dev/metal-installer/" + Schematic + ":v1.13.9"
	InstallTook = time.Second
	BootTook    = 2 * time.Second
)

// ErrDown is the answer of a node that is down.
var ErrDown = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Retryable: true, Err: errors.New("connection refused")} //nolint:gochecknoglobals // a constant

// Machine is a fake node: a small state machine with the faults that a test scripts.
type Machine struct {
	probe.API // What is not simulated panics.

	Mu sync.Mutex

	Running   talos.Version
	Stage     talos.MachineStatus
	Sys       talos.System
	Boots     int
	Name      string
	MountList []talos.Mount
	Free      uint64 // Bytes of memory.
	Config    talos.ConfigFacts
	Time      talos.TimeStatus
	ClockOff  float64 // Seconds.
	DownUntil time.Time
	Installed string // The version in the other slot, if it is the default.
	Calls     []string

	Fail      map[string]error              // The next such call fails without being carried out.
	LoseReply map[string]error              // The next such call is carried out, and then fails.
	During    map[string]func()             // Runs in the middle of such a call.
	BootInto  func(installed string) string // What the next boot comes up with.
	Never     bool                          // It does not come back.
	ExitCode  int                           // Of the installer.

	Installing   time.Time // Until when an installer without a client runs.
	InstallerEnd *int      // The exit code in the log of the last installer; nil for none.
	Mute         bool      // The log does not tell how installers end.
	Torn         bool      // A reboot came while an installer ran.

	AfterBoot func(*Machine)
	Kube      *Kubernetes
	Forfeit   func()
	Doubled   bool // A second install came before the reboot: it overwrote what ran.

	Refuse    error         // Every call fails with this.
	Hung      chan struct{} // Calls are answered once it is closed.
	Ignore    bool          // Changes are accepted and not carried out.
	Outage    time.Duration // How long the network is down from each change on.
	BootTakes time.Duration
	Previous  string // The version that a rollback boots.
	PowersOn  bool   // It boots although it was to stay off.
	Sequence  string // The error of a sequence, on the event stream.
	Wiped     []string

	UUID        string // Of the hardware.
	Separated   []string
	Arguments   []string
	ServiceList []talos.Service
	Kinds       []talos.ResourceKind
	Spec        map[string]any // Of every resource.
	Links       []talos.Interface
	// Render gives the resources of a type that the node makes of a configuration; nil for none.
	Render func(text []byte, typ string) []talos.Resource

	Text        []byte // The configuration in force.
	Staged      []byte // The one for the next boot.
	NeedsReboot bool   // A configuration takes effect at a boot only.
	Bare        bool   // It has no configuration: maintenance mode.

	// Scripts for tests about the answers themselves.
	BootAs   func(context.Context) (talos.Boot, error)
	StatusAs func(context.Context) (talos.MachineStatus, error)

	off         bool
	outageUntil time.Time
}

// NewMachine returns a worker that runs a version.
func NewMachine(version string) *Machine {
	return &Machine{
		Running: talos.Version{Tag: version, API: release.UpgradeAPI(version), Platform: "metal"},
		Stage:   talos.MachineStatus{Stage: "running", Ready: true},
		Sys: talos.System{
			Schematic: Schematic, Kubelet: "v1.35.4", Extensions: []talos.Extension{{Name: "iscsi-tools", Version: "v0.1.6"}},
		},
		Config: talos.ConfigFacts{InstallImage: OldImage, Authorities: []talos.Authority{{Name: "machine.ca", NotAfter: time.Now().AddDate(10, 0, 0)}}},
		Time:   talos.TimeStatus{Synced: true},
		Free:   8 << 30,
		Boots:  1, Name: "worker-1", MountList: []talos.Mount{{MountedOn: "/var", SizeBytes: 100 << 30, AvailableBytes: 50 << 30}},
		BootTakes: BootTook, Previous: "v1.13.8",
		Fail: map[string]error{}, LoseReply: map[string]error{}, During: map[string]func(){},
	}
}

// BootID identifies the boot that runs.
func (m *Machine) BootID() string { return fmt.Sprintf("boot-%d", m.Boots) }

// life is a process that can be killed: from then on nothing it asks for is carried out, undo included.
type life struct{ over atomic.Bool }

type lifeKey struct{}

// Mortal gives a context of a process, and the kill -9 that ends it.
func Mortal(ctx context.Context) (context.Context, func()) {
	l := &life{}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, lifeKey{}, l))

	return ctx, func() {
		l.over.Store(true)
		cancel(errs.New(errs.Interrupted, "killed"))
	}
}

func dead(ctx context.Context) bool {
	l, ok := ctx.Value(lifeKey{}).(*life)

	return ok && l.over.Load()
}

// enter records a call and reports whether the node answers.
func (m *Machine) enter(ctx context.Context, call string, change bool) error {
	return m.admit(ctx, call, change, false)
}

// admit is enter for the API of maintenance mode too.
func (m *Machine) admit(ctx context.Context, call string, change, bare bool) error {
	if m.Hung != nil {
		select {
		case <-m.Hung:
		case <-ctx.Done():
		}
	}

	if ctx.Err() != nil || dead(ctx) {
		return interrupted(ctx)
	}

	m.Mu.Lock()
	defer m.Mu.Unlock()

	switch {
	case m.Refuse != nil:
		return m.Refuse
	case m.down() || m.Bare != bare:
		return ErrDown
	}

	if change {
		m.Calls = append(m.Calls, call)
		m.outageUntil = time.Now().Add(m.Outage)
	}

	if err := m.Fail[call]; err != nil {
		delete(m.Fail, call)

		return err
	}

	return nil
}

// down reports whether nothing reaches the node. Mu is held.
func (m *Machine) down() bool {
	now := time.Now()

	return m.off && !m.PowersOn || m.Never && !m.DownUntil.IsZero() || now.Before(m.DownUntil) || now.Before(m.outageUntil)
}

// Up reports whether the node answers with its configuration.
func (m *Machine) Up() bool {
	m.Mu.Lock()
	defer m.Mu.Unlock()

	return !m.Bare && !m.down()
}

func interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return ErrDown
	}

	return &errs.Error{Exit: errs.Interrupted, Kind: errs.KindInterrupted, Err: ctx.Err()}
}

// middle runs what a test wants to happen in the middle of a call, and takes its time.
func (m *Machine) middle(ctx context.Context, call string, took time.Duration) error {
	m.Mu.Lock()
	f := m.During[call]
	delete(m.During, call)
	m.Mu.Unlock()

	if f != nil {
		f()
	}

	if poll.Pause(ctx, took) != nil {
		return interrupted(ctx)
	}

	m.Mu.Lock()
	defer m.Mu.Unlock()

	if err := m.LoseReply[call]; err != nil {
		delete(m.LoseReply, call)

		return err
	}

	return nil
}

// Version implements probe.API.
func (m *Machine) Version(ctx context.Context) (talos.Version, error) {
	return read(ctx, m, "version", func() talos.Version { return m.Running })
}

func read[T any](ctx context.Context, m *Machine, call string, get func() T) (T, error) {
	return answer(m, m.enter(ctx, call, false), get)
}

// answer is what get says, unless there is an error.
func answer[T any](m *Machine, err error, get func() T) (T, error) {
	if err != nil {
		return *new(T), err
	}

	m.Mu.Lock()
	defer m.Mu.Unlock()

	return get(), nil
}

// Boot implements probe.API.
func (m *Machine) Boot(ctx context.Context, _ string) (talos.Boot, error) {
	if m.BootAs != nil {
		return m.BootAs(ctx)
	}

	return read(ctx, m, "boot", func() talos.Boot { return talos.Boot{ID: m.BootID(), Proof: "boot_id"} })
}

// MachineStatus implements probe.API.
func (m *Machine) MachineStatus(ctx context.Context) (talos.MachineStatus, error) {
	if m.StatusAs != nil {
		return m.StatusAs(ctx)
	}

	return read(ctx, m, "status", func() talos.MachineStatus { return m.Stage })
}

// System implements probe.API.
func (m *Machine) System(ctx context.Context) (talos.System, error) {
	return read(ctx, m, "system", func() talos.System { return m.Sys })
}

// ConfigFacts implements probe.API.
func (m *Machine) ConfigFacts(ctx context.Context) (talos.ConfigFacts, error) {
	return read(ctx, m, "config", func() talos.ConfigFacts { return m.Config })
}

// TimeStatus implements probe.API.
func (m *Machine) TimeStatus(ctx context.Context) (talos.TimeStatus, bool, error) {
	status, err := read(ctx, m, "time", func() talos.TimeStatus { return m.Time })

	return status, true, err
}

// Clock implements probe.API.
func (m *Machine) Clock(ctx context.Context, _ string) (talos.Clock, error) {
	return read(ctx, m, "clock", func() talos.Clock { return talos.Clock{Server: "ntp", OffsetSeconds: m.ClockOff} })
}

// KubernetesName implements probe.API.
func (m *Machine) KubernetesName(ctx context.Context) (string, error) {
	return read(ctx, m, "name", func() string { return m.Name })
}

// Mounts implements probe.API.
func (m *Machine) Mounts(ctx context.Context) ([]talos.Mount, error) {
	return read(ctx, m, "mounts", func() []talos.Mount { return m.MountList })
}

// Memory implements probe.API.
func (m *Machine) Memory(ctx context.Context) (talos.Memory, error) {
	return read(ctx, m, "memory", func() talos.Memory { return talos.Memory{AvailableBytes: m.Free} })
}

// SystemUUID implements probe.API.
func (m *Machine) SystemUUID(ctx context.Context) (string, error) {
	return read(ctx, m, "uuid", func() string { return m.UUID })
}

// Separate implements probe.API.
func (m *Machine) Separate(ctx context.Context) ([]string, error) {
	return read(ctx, m, "volumes", func() []string { return m.Separated })
}

// KernelArguments implements probe.API.
func (m *Machine) KernelArguments(ctx context.Context) ([]string, error) {
	return read(ctx, m, "arguments", func() []string { return m.Arguments })
}

// Services implements probe.API.
func (m *Machine) Services(ctx context.Context) ([]talos.Service, error) {
	return read(ctx, m, "services", func() []talos.Service { return m.ServiceList })
}

// ResourceKinds implements probe.API.
func (m *Machine) ResourceKinds(ctx context.Context) ([]talos.ResourceKind, error) {
	return read(ctx, m, "kinds", func() []talos.ResourceKind { return m.Kinds })
}

// Resource implements probe.API.
func (m *Machine) Resource(ctx context.Context, _, _, id string) (talos.Resource, error) {
	return read(ctx, m, "resource", func() talos.Resource {
		return talos.Resource{Metadata: talos.ResourceMetadata{ID: id}, Spec: m.Spec}
	})
}

// Resources implements probe.API.
func (m *Machine) Resources(ctx context.Context, _, typ string, _ ...string) ([]talos.Resource, error) {
	return read(ctx, m, "resources", func() []talos.Resource {
		if m.Render == nil {
			return nil
		}

		return m.Render(m.Text, typ)
	})
}

// Interfaces implements probe.API.
func (m *Machine) Interfaces(ctx context.Context, _ bool) ([]talos.Interface, error) {
	return read(ctx, m, "interfaces", func() []talos.Interface { return m.Links })
}

// EtcdStatus is empty.
func (m *Machine) EtcdStatus(ctx context.Context) (talos.EtcdStatus, error) {
	return read(ctx, m, "etcd", func() talos.EtcdStatus { return talos.EtcdStatus{} })
}

// PullImage implements probe.API.
func (m *Machine) PullImage(ctx context.Context, _, ref string, _ func(talos.PullProgress)) (string, error) {
	if err := m.enter(ctx, "pull", true); err != nil {
		return "", err
	}

	return ref + "@sha256:1111", m.middle(ctx, "pull", 100*time.Millisecond)
}

// Install implements probe.API. The installer continues when its client vanishes, as in Talos.
func (m *Machine) Install(ctx context.Context, image string, line func(string)) (int, error) {
	if err := m.enter(ctx, "install", true); err != nil {
		return 0, err
	}

	line("running Talos installer")

	until := time.Now().Add(InstallTook)

	m.Mu.Lock()
	boots := m.Boots
	m.Installing, m.InstallerEnd = time.Now().Add(InstallTook+time.Millisecond), nil // its end comes first
	m.Mu.Unlock()

	end := sync.OnceFunc(func() {
		m.Mu.Lock()
		defer m.Mu.Unlock()

		if m.Boots != boots {
			return // torn by a reboot
		}

		code := m.ExitCode
		m.Installing, m.InstallerEnd = time.Time{}, &code

		if code == 0 {
			m.Doubled = m.Doubled || m.Installed != ""
			m.Installed = imageref.Split(image).Tag
		}
	})
	time.AfterFunc(InstallTook, end)

	err := m.middle(ctx, "install", InstallTook)

	if !time.Now().Before(until) {
		end()
	}

	if err != nil {
		return 0, err
	}

	return m.ExitCode, nil
}

// SequenceErrors implements probe.API: the stream ends with its reader.
func (m *Machine) SequenceErrors(ctx context.Context, opened func(), fn func(string)) error {
	opened()

	if m.Sequence != "" {
		fn(m.Sequence)
	}

	<-ctx.Done()

	return ctx.Err()
}

// InstallerRuns implements probe.API.
func (m *Machine) InstallerRuns(ctx context.Context) (bool, error) {
	return read(ctx, m, "installer", func() bool { return time.Now().Before(m.Installing) })
}

// InstallerEnded implements probe.API.
func (m *Machine) InstallerEnded(ctx context.Context, _ time.Time) (code int, found bool, err error) {
	end, err := read(ctx, m, "installer", func() *int { return m.InstallerEnd })
	if end == nil || m.Mute {
		return 0, false, err
	}

	return *end, true, err
}

// Members are members with these names, as discovery lists them.
func Members(names ...string) []talos.Member {
	out := make([]talos.Member, len(names))
	for i, name := range names {
		out[i] = talos.Member{NodeRef: talos.NodeRef{Hostname: name}, Source: target.FromDiscovery}
	}

	return out
}

// Count counts the calls of one kind that were sent.
func (m *Machine) Count(call string) int {
	m.Mu.Lock()
	defer m.Mu.Unlock()

	n := 0

	for _, c := range m.Calls {
		if c == call {
			n++
		}
	}

	return n
}

// EtcdForfeitLeadership implements probe.API.
func (m *Machine) EtcdForfeitLeadership(ctx context.Context) (string, error) {
	if err := m.enter(ctx, "forfeit", true); err != nil {
		return "", err
	}

	if m.Forfeit != nil {
		m.Forfeit()
	}

	return "cp-2", nil
}

// BackingOff is the way through an endpoint that does not reach a node for a while after it was down.
type BackingOff struct{ *Machine }

func (b BackingOff) gone() error {
	b.Mu.Lock()
	defer b.Mu.Unlock()

	if !b.DownUntil.IsZero() && time.Now().Before(b.DownUntil.Add(16*time.Second)) {
		return ErrDown
	}

	return nil
}

// Version implements probe.API.
func (b BackingOff) Version(ctx context.Context) (talos.Version, error) {
	if err := b.gone(); err != nil {
		return talos.Version{}, err
	}

	return b.Machine.Version(ctx)
}

// Rollback implements probe.API.
func (b BackingOff) Rollback(ctx context.Context) error {
	return errors.Join(b.gone(), b.Machine.Rollback(ctx))
}

// PullImage implements probe.API.
func (b BackingOff) PullImage(ctx context.Context, ns, ref string, tell func(talos.PullProgress)) (string, error) {
	if err := b.gone(); err != nil {
		return "", err
	}

	return b.Machine.PullImage(ctx, ns, ref, tell)
}

// Sink is a progress sink made of a function.
type Sink func(progress.Event)

// Emit implements progress.Sink.
func (s Sink) Emit(e progress.Event) { s(e) }

// Close implements progress.Sink.
func (Sink) Close() {}
