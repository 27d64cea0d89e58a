package talos

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestBootAuditJudges(t *testing.T) {
	t.Parallel()

	const old, now = "Talos-v1.14.0.efi", "Talos-v1.14.1.efi"

	for name, c := range map[string]struct {
		loader            string
		booted, next      string
		kind              int
		selected, oneShot string

		via, proof, then string
	}{
		"grub, from the firmware":                {loader: "grub", kind: 0x72, via: "firmware", proof: "firmware"},
		"grub, by kexec":                         {loader: "grub", kind: 0xD0, via: "kexec", proof: "kexec"},
		"grub, nothing to read":                  {loader: "grub", via: "unproven", proof: "unproven"},
		"systemd-boot, from the firmware":        {loader: "systemd-boot", booted: now, next: now, kind: 0x21, selected: now, via: "firmware", proof: "firmware", then: now},
		"by kexec, of a version it started":      {loader: "systemd-boot", booted: now, next: now, kind: 0xD0, selected: strings.ToLower(now), oneShot: "kexec reboot", via: "kexec", proof: "firmware", then: now},
		"by kexec, of another version":           {loader: "systemd-boot", booted: now, next: now, kind: 0xD0, selected: old, oneShot: "kexec reboot", via: "kexec", proof: "kexec", then: now},
		"arm64, by kexec":                        {loader: "systemd-boot", booted: now, next: now, selected: old, oneShot: "kexec reboot", via: "kexec", proof: "kexec", then: now},
		"arm64, by kexec without a note":         {loader: "systemd-boot", booted: now, next: now, selected: old, via: "kexec", proof: "kexec", then: now},
		"arm64, the entry was started":           {loader: "systemd-boot", booted: now, next: now, selected: now, via: "unproven", proof: "firmware", then: now},
		"no variables":                           {loader: "systemd-boot", booted: now, via: "unproven", proof: "unproven"},
		"a disk image that was never installed":  {loader: "systemd-boot", booted: now, kind: 0x21, selected: now, via: "firmware", proof: "firmware", then: now},
		"another entry is chosen for once":       {loader: "systemd-boot", booted: now, next: now, kind: 0x21, selected: now, oneShot: old, via: "firmware", proof: "firmware", then: old},
		"the boot loader will start another one": {loader: "systemd-boot", booted: old, next: now, kind: 0x21, selected: old, via: "firmware", proof: "firmware", then: now},
	} {
		b := BootAudit{BootLoader: c.loader, BootedEntry: c.booted, NextEntry: c.next, Via: Unproven, Proof: Unproven}
		if b.judge(c.kind, c.selected, c.oneShot); b.Via != c.via || b.Proof != c.proof || b.NextEntry != c.then {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestEFIText(t *testing.T) {
	t.Parallel()

	variable := func(text string) []byte {
		out := []byte{7, 0, 0, 0}
		for _, u := range utf16.Encode([]rune(text)) {
			out = binary.LittleEndian.AppendUint16(out, u)
		}

		return out
	}

	for want, raw := range map[string][]byte{
		"": {7, 0}, "Talos-v1.14.1.efi": variable("Talos-v1.14.1.efi\x00rest"), "é": append(variable("é"), 0), "�": {0, 0, 0, 0, 0, 0xD8},
	} {
		if got := efiText(raw); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
