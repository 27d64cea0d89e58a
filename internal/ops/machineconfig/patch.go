package machineconfig

import (
	"errors"
	"fmt"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// Patches are changes to a configuration, applied in order.
type Patches struct {
	list []patch
}

// patch is one change. Talos's own reader may not know its documents, which newer versions may have: then err
// says so, and documents holds them.
type patch struct {
	known     configpatcher.Patch
	documents []Document
	err       error
}

// LoadPatches reads patches with Talos's own reader: strategic merge (with `$patch: delete`) or JSON6902, as
// text. Anything that is not a patch is a usage error.
func LoadPatches(texts [][]byte) (Patches, error) {
	var out Patches

	for i, text := range texts {
		if strings.TrimSpace(string(text)) == "" {
			return out, errs.Usagef("patch %d is empty", i+1)
		}

		if err := foreign.Check(text); errors.Is(err, foreign.ErrTooLarge) {
			return out, errs.Usagef("cannot read patch %d: %w", i+1, err)
		}

		p := patch{}
		if p.known, p.err = configpatcher.LoadPatch(text); p.err != nil {
			p.err = Hidden(errs.Usagef("cannot read patch %d: %w", i+1, p.err), text)
		}

		if cfg, err := Parse(text); err == nil {
			p.documents = cfg.Documents
		} else if p.err != nil {
			return out, p.err
		}

		out.list = append(out.list, p)
	}

	return out, nil
}

// Apply gives the configuration with the patches. What Talos's patcher rejects is a usage error: a JSON6902
// patch on a configuration of several documents, a path that is not there. newer says that the configuration is
// of a Talos version that this program does not know: documents that its patcher rejects are then merged by their
// form alone.
func (p Patches) Apply(text []byte, newer bool) ([]byte, error) {
	if newer {
		return p.applyNewer(text)
	}

	list := make([]configpatcher.Patch, len(p.list))

	for i, one := range p.list {
		if one.err != nil {
			return nil, one.err
		}

		list[i] = one.known
	}

	return applyKnown(text, list)
}

func applyKnown(text []byte, list []configpatcher.Patch) ([]byte, error) {
	out, err := configpatcher.Apply(configpatcher.WithBytes(text), list)
	if err != nil {
		e := errs.Usagef("cannot patch the machine configuration: %w", Hidden(err, text))
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
