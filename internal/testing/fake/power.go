package fake

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// UpgradeLegacy implements probe.API.
func (m *Machine) UpgradeLegacy(ctx context.Context, image, _ string) error {
	if err := m.enter(ctx, "legacy", true); err != nil {
		return err
	}

	m.Mu.Lock()
	m.Installed = imageref.Split(image).Tag
	m.Mu.Unlock()
	m.GoDown()

	return m.middle(ctx, "legacy", 0)
}

// Reboot implements probe.API.
func (m *Machine) Reboot(ctx context.Context, _ string) error {
	if err := m.enter(ctx, "reboot", true); err != nil {
		return err
	}

	m.GoDown()

	return m.middle(ctx, "reboot", 0)
}

// GoDown reboots the node into what is installed.
func (m *Machine) GoDown() {
	m.Mu.Lock()
	defer m.Mu.Unlock()

	if m.Ignore {
		return
	}

	m.Torn = m.Torn || time.Now().Before(m.Installing)
	m.Installing = time.Time{}

	if m.Staged != nil {
		m.Text, m.Staged = m.Staged, nil
	}

	m.Boots++
	m.DownUntil = time.Now().Add(m.BootTakes)
	into := m.Installed

	if m.BootInto != nil {
		into = m.BootInto(m.Installed)
	}

	if into != "" {
		m.Running.Tag, m.Running.API = into, release.UpgradeAPI(into)
	}

	m.Installed = ""

	if m.AfterBoot != nil {
		m.AfterBoot(m)
	}

	if m.Kube != nil {
		m.Kube.rebooted(m.Name, m.BootID(), m.DownUntil)
	}
}

// Shutdown implements probe.API.
func (m *Machine) Shutdown(ctx context.Context, _ bool) error {
	if err := m.enter(ctx, "shutdown", true); err != nil {
		return err
	}

	m.powerOff()

	return m.middle(ctx, "shutdown", 0)
}

// Reset implements probe.API.
func (m *Machine) Reset(ctx context.Context, r talos.Reset) error {
	if err := m.enter(ctx, "reset", true); err != nil {
		return err
	}

	m.Mu.Lock()
	m.Wiped = r.SystemLabels
	m.Mu.Unlock()
	m.powerOff()

	return m.middle(ctx, "reset", 0)
}

// powerOff turns the node off, or boots it if it is not to stay off.
func (m *Machine) powerOff() {
	m.GoDown()

	m.Mu.Lock()
	defer m.Mu.Unlock()

	m.off = !m.Ignore
}

// Rollback implements probe.API.
func (m *Machine) Rollback(ctx context.Context) error {
	if err := m.enter(ctx, "rollback", true); err != nil {
		return err
	}

	m.Mu.Lock()
	m.Installed, m.BootInto, m.AfterBoot = m.Previous, nil, nil
	m.Sys = NewMachine(m.Previous).Sys
	m.Stage = talos.MachineStatus{Stage: "running", Ready: true}
	m.Mu.Unlock()
	m.GoDown()

	return m.middle(ctx, "rollback", 0)
}
