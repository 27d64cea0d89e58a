package talos

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Ways in which a boot came up, and what proves that a version boots.
const (
	ThroughFirmware = "firmware"
	ThroughKexec    = "kexec"
	Unproven        = "unproven"
)

// BootAudit is how a node came up, and what its firmware would start next.
type BootAudit struct {
	NodeRef

	Version     string   `json:"version"`                // The Talos version that runs.
	BootLoader  string   `json:"boot_loader"`            // systemd-boot, grub, or none for a container.
	BootedEntry string   `json:"booted_entry,omitempty"` // The boot entry that runs; GRUB shows none.
	NextEntry   string   `json:"next_entry,omitempty"`   // The boot entry that the boot loader would start from the firmware; absent where it is not known.
	Via         string   `json:"via"`                    // How this boot came up: firmware, kexec or unproven.
	Proof       string   `json:"proof"`                  // What proves that the version that runs boots: firmware, kexec alone, or unproven.
	Evidence    []string `json:"evidence"`               // What says so, and what could not be read; never null.
}

// Where a node shows how it was booted. The kernel has the boot loader's type on x86 (Linux, Documentation/arch/x86/boot.rst and
// arch/x86/kernel/kexec-bzimage64.c). systemd-boot has the entry that it selected, and removes the one-shot entry that the
// kernel sets before it starts another by kexec (Linux, drivers/firmware/efi/efibc.c; Talos,
// internal/app/machined/pkg/controllers/runtime/booted_entry.go).
const (
	loaderTypeFile = "/proc/sys/kernel/bootloader_type"
	efiVariables   = "/sys/firmware/efi/efivars/"
	systemdVendor  = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	entryDefault   = "LoaderEntryDefault"
	entrySelected  = "LoaderEntrySelected"
	entryOneShot   = "LoaderEntryOneShot"
	oneShotKexec   = "kexec reboot"
	loaderOfKexec  = 0xD0
	bootFileLimit  = 4 << 10
)

// BootAudit reads how the node came up. Files that the certificate may not read are evidence that is missing. Roles: reader,
// operator, admin; only an admin reads the files.
func (n *Node) BootAudit(ctx context.Context) (BootAudit, error) {
	out := BootAudit{BootLoader: "grub", Via: Unproven, Proof: Unproven, Evidence: []string{}}

	version, err := n.Version(ctx)
	if err != nil {
		return out, err
	}

	out.Version = version.Tag

	if version.Platform == "container" {
		out.BootLoader, out.Evidence = "none", []string{"a container has no firmware and no kernel of its own"}

		return out, nil
	}

	security, err := n.Security(ctx)
	if err != nil {
		return out, err
	}

	out.BootedEntry = security.BootEntry

	kind, err := n.bootFile(ctx, &out, loaderTypeFile)
	if err != nil {
		return out, err
	}

	loaderType, _ := strconv.Atoi(strings.TrimSpace(string(kind))) // 0 where it is not known

	var selected, oneShot string

	if security.BootedUKI {
		out.BootLoader = "systemd-boot"

		for name, to := range map[string]*string{entryDefault: &out.NextEntry, entrySelected: &selected, entryOneShot: &oneShot} {
			raw, err := n.bootFile(ctx, &out, efiVariables+name+systemdVendor)
			if err != nil {
				return out, err
			}

			*to = efiText(raw)
		}
	}

	out.judge(loaderType, selected, oneShot)

	return out, nil
}

// judge decides from what was read: the boot loader's type (0 for not known), the entry that systemd-boot selected last and the
// one-shot entry.
func (b *BootAudit) judge(loaderType int, selected, oneShot string) {
	note := func(format string, args ...any) { b.Evidence = append(b.Evidence, fmt.Sprintf(format, args...)) }

	switch {
	case loaderType == loaderOfKexec:
		b.Via = ThroughKexec

		note("the kernel was started by kexec (boot loader type %#x)", loaderType)
	case loaderType > 0:
		b.Via = ThroughFirmware

		note("the kernel was started by a boot loader (type %#x)", loaderType)
	case oneShot == oneShotKexec:
		b.Via = ThroughKexec

		note("%s is %q: systemd-boot has not run since", entryOneShot, oneShot)
	case selected != "" && b.BootedEntry != "" && !strings.EqualFold(selected, b.BootedEntry):
		b.Via = ThroughKexec
	}

	b.Proof = b.Via

	switch {
	case selected == "":
	case strings.EqualFold(selected, b.BootedEntry):
		b.Proof = ThroughFirmware

		note("systemd-boot started %s last", selected)
	default:
		note("systemd-boot started %s last, which is not the entry that runs", selected)
	}

	switch {
	case b.BootLoader == "grub":
		note("GRUB shows neither its default entry nor how earlier boots came up")
	case b.NextEntry == "":
		b.NextEntry = selected // a disk image that no installer has run on yet
	}

	if oneShot != "" && oneShot != oneShotKexec {
		b.NextEntry = oneShot
	}
}

// bootFile reads a small file; nothing where it does not exist or may not be read.
func (n *Node) bootFile(ctx context.Context, out *BootAudit, path string) ([]byte, error) {
	raw, err := n.ReadFile(ctx, path, bootFileLimit)

	switch kind := conn.KindOf(err); {
	case err == nil:
		return raw, nil
	case kind == errs.KindNotFound:
		return nil, nil
	case conn.Transient(err) || ctx.Err() != nil:
		return nil, err
	case kind == errs.KindPermissionDenied:
		if text := "the certificate may not read files: os:admin sees more"; len(out.Evidence) == 0 {
			out.Evidence = append(out.Evidence, text)
		}

		return nil, nil
	default:
		out.Evidence = append(out.Evidence, "cannot read "+path)

		return nil, nil
	}
}

// efiText is the text of an EFI variable: four bytes of attributes, then UTF-16 up to a zero.
func efiText(raw []byte) string {
	const attributes = 4

	var units []uint16

	for i := attributes; i+1 < len(raw); i += 2 {
		u := binary.LittleEndian.Uint16(raw[i:])
		if u == 0 {
			break
		}

		units = append(units, u)
	}

	return string(utf16.Decode(units))
}
