package target

import (
	"net/netip"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// gateNotAllowed is the gate's code, which package gate registers.
const gateNotAllowed = "TM163"

// Allowed are the nodes that may be asked or changed: addresses, networks (10.0.0.0/24) and Talos hostnames. An empty
// list allows every node.
type Allowed []string

// ParseAllowed checks the entries of a list.
func ParseAllowed(entries []string) (Allowed, error) {
	out := make(Allowed, 0, len(entries))

	for _, entry := range entries {
		entry = strings.TrimSpace(entry)

		if strings.Contains(entry, "/") {
			if _, err := netip.ParsePrefix(entry); err != nil {
				return nil, errs.Usagef("bad network %q among the allowed nodes: %w", entry, err)
			}
		} else {
			entry = Host(entry)
		}

		if entry == "" {
			return nil, errs.Usagef("an empty name among the allowed nodes").WithHint("is a variable of your script empty?")
		}

		out = append(out, entry)
	}

	return out, nil
}

// Permits reports whether the node is in the list: by one of its addresses, or by its hostname as discovery has it.
func (a Allowed) Permits(t Target) bool {
	if len(a) == 0 {
		return true
	}

	for _, entry := range a {
		if t.Has(entry) || t.Hostname == entry {
			return true
		}

		network, err := netip.ParsePrefix(entry)
		if err != nil {
			continue
		}

		if address, err := netip.ParseAddr(Host(t.Address)); err == nil && network.Contains(address.Unmap()) {
			return true
		}
	}

	return false
}

// Check refuses a node that is not in the list.
func (a Allowed) Check(t Target) error {
	if a.Permits(t) {
		return nil
	}

	name := t.Name()
	if t.Hostname != "" && t.Address != "" && t.Hostname != t.Address {
		name += " (" + t.Address + ")"
	}

	err := errs.New(errs.Refused, "%s is not among the allowed nodes", name).OnNode(t.Address).
		WithHint("allowed: %s", strings.Join(a, ", "))
	err.Hostname, err.Gate = t.Hostname, gateNotAllowed

	return err
}
