package talos

import (
	"context"
	"strings"
)

// SecurityState is what a node says about the protection of its boot and its kernel.
type SecurityState struct {
	SecureBoot       bool   `json:"secure_boot"`       // Whether it booted with secure boot.
	BootedUKI        bool   `json:"booted_uki"`        // Whether systemd-boot booted a UKI; GRUB boots none.
	BootEntry        string `json:"boot_entry"`        // The entry of systemd-boot that it booted, empty with GRUB.
	UKIFingerprint   string `json:"uki_fingerprint"`   // The fingerprint of the key that signed its UKI, empty where it does not tell.
	PCRFingerprint   string `json:"pcr_fingerprint"`   // The fingerprint of the key that signed its PCR measurements, empty without one.
	SELinux          string `json:"selinux"`           // disabled, permissive or enforcing; empty when not known.
	FIPS             string `json:"fips"`              // disabled, enabled or strict; empty when not known.
	ModuleSignatures bool   `json:"module_signatures"` // Whether the kernel loads signed modules only.
}

// NodeSecurity is the security state of a node.
type NodeSecurity struct {
	NodeRef
	SecurityState
}

// Security reads the security state; the zero value when it may not be read. Roles: reader, operator, admin.
func (n *Node) Security(ctx context.Context) (SecurityState, error) {
	s, err := resourceSpec[*struct {
		SecureBoot    bool   `json:"secureBoot"`
		UKIKey        string `json:"ukiSigningKeyFingerprint"`
		PCRKey        string `json:"pcrSigningKeyFingerprint"`
		SELinux       string `json:"selinuxState"`
		FIPS          string `json:"fipsState"`
		BootedWithUKI bool   `json:"bootedWithUKI"`
		Modules       bool   `json:"moduleSignatureEnforced"`
	}](ctx, n, "runtime", "SecurityStates.talos.dev", "securitystate")
	if err != nil || s == nil {
		return SecurityState{}, err
	}

	entry, err := resourceSpec[struct {
		Entry string `json:"bootedEntry"`
	}](ctx, n, "runtime", "BootedEntries.talos.dev", "bootedentry")

	return SecurityState{
		SecureBoot: s.SecureBoot, BootedUKI: s.BootedWithUKI, BootEntry: entry.Entry, UKIFingerprint: s.UKIKey, PCRFingerprint: s.PCRKey,
		SELinux: modeOf(s.SELinux), FIPS: modeOf(s.FIPS), ModuleSignatures: s.Modules,
	}, err
}

// modeOf is the word of a mode: Talos writes "enabled, permissive", and omits "disabled".
func modeOf(text string) string {
	if text == "" {
		return "disabled"
	}

	return strings.TrimPrefix(text, "enabled, ")
}
