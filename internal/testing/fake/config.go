package fake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/talos"
)

// MachineConfig implements probe.API.
func (m *Machine) MachineConfig(ctx context.Context) ([]byte, error) {
	return read(ctx, m, "config", func() []byte { return m.Text })
}

// PersistedConfig implements probe.API.
func (m *Machine) PersistedConfig(ctx context.Context) (text []byte, known bool, err error) {
	text, err = read(ctx, m, "persisted", func() []byte {
		if m.Staged != nil {
			return m.Staged
		}

		return m.Text
	})

	return text, true, err
}

// ApplyConfig implements probe.API.
func (m *Machine) ApplyConfig(ctx context.Context, text []byte, mode string, _ time.Duration, dryRun bool) (talos.Applied, error) {
	if dryRun {
		if err := m.enter(ctx, "dry run", false); err != nil {
			return talos.Applied{}, err
		}

		if m.NeedsReboot {
			return talos.Applied{}, errors.New("this config change can't be applied in immediate mode\ndiff:\n+secret: x")
		}

		return talos.Applied{Mode: mode}, nil
	}

	if err := m.enter(ctx, "apply", true); err != nil {
		return talos.Applied{}, err
	}

	did := m.take(text, mode)

	if did == talos.ApplyReboot {
		m.GoDown()
	}

	return talos.Applied{Mode: did}, m.middle(ctx, "apply", 0)
}

// take stores a configuration and returns what becomes of it.
func (m *Machine) take(text []byte, mode string) string {
	m.Mu.Lock()
	defer m.Mu.Unlock()

	did := mode

	switch {
	case mode == talos.ApplyAuto && m.NeedsReboot:
		did = talos.ApplyReboot
	case mode == talos.ApplyAuto:
		did = talos.ApplyNoReboot
	}

	switch {
	case m.Ignore:
	case did == talos.ApplyStaged, did == talos.ApplyReboot:
		m.Staged = text
	default:
		m.Text, m.Staged = text, nil
	}

	return did
}

// Maintenance is the API of a machine without a configuration, which it leaves with its first one.
type Maintenance struct{ *Machine }

func (b Maintenance) enter(ctx context.Context, call string, change bool) error {
	return b.admit(ctx, call, change, true)
}

// Version implements probe.API.
func (b Maintenance) Version(ctx context.Context) (talos.Version, error) {
	return answer(b.Machine, b.enter(ctx, "version", false), func() talos.Version { return b.Running })
}

// MachineStatus implements probe.API.
func (b Maintenance) MachineStatus(ctx context.Context) (talos.MachineStatus, error) {
	if b.StatusAs != nil {
		return b.StatusAs(ctx)
	}

	return talos.MachineStatus{Stage: "maintenance"}, b.enter(ctx, "status", false)
}

// SystemUUID implements probe.API.
func (b Maintenance) SystemUUID(ctx context.Context) (string, error) {
	return answer(b.Machine, b.enter(ctx, "uuid", false), func() string { return b.UUID })
}

// ApplyConfig implements probe.API: the machine installs itself and boots.
func (b Maintenance) ApplyConfig(ctx context.Context, text []byte, mode string, _ time.Duration, dryRun bool) (talos.Applied, error) {
	if mode != talos.ApplyAuto {
		return talos.Applied{}, fmt.Errorf("mode %s", mode)
	}

	if dryRun {
		return talos.Applied{}, b.enter(ctx, "dry run", false)
	}

	if err := b.enter(ctx, "apply", true); err != nil {
		return talos.Applied{}, err
	}

	b.Mu.Lock()
	b.Text, b.Bare = text, b.Ignore
	b.Mu.Unlock()
	b.GoDown()

	return talos.Applied{}, b.middle(ctx, "apply", 0)
}
