package machineconfig

import (
	"fmt"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"

	"github.com/talosmate/talosmate/internal/errs"
)

// Patches are changes to a configuration, applied in order.
type Patches struct {
	list []configpatcher.Patch
}

// LoadPatches reads patches with Talos's own reader: strategic merge (with `$patch: delete`) or JSON6902, as
// text. What is no patch is a usage error.
func LoadPatches(texts [][]byte) (Patches, error) {
	var out Patches

	for i, text := range texts {
		if strings.TrimSpace(string(text)) == "" {
			return out, errs.Usagef("patch %d is empty", i+1)
		}

		p, err := configpatcher.LoadPatch(text)
		if err != nil {
			return out, errs.Usagef("cannot read patch %d: %w", i+1, err)
		}

		out.list = append(out.list, p)
	}

	return out, nil
}

// Apply gives the configuration with the patches. What Talos's patcher rejects is a usage error: a JSON6902
// patch on a configuration of several documents, a path that is not there.
func (p Patches) Apply(text []byte) ([]byte, error) {
	out, err := configpatcher.Apply(configpatcher.WithBytes(text), p.list)
	if err != nil {
		e := errs.Usagef("cannot patch the machine configuration: %w", err)
		if strings.Contains(err.Error(), "JSON6902") {
			e = e.WithHint("write it as a strategic merge patch: a piece of the configuration, with `$patch: delete` for what shall go")
		}

		return nil, e
	}

	patched, err := out.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cannot write the patched machine configuration: %w", err)
	}

	return patched, nil
}
