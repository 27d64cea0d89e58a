package talos

import (
	"context"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// KernelModule is a module of the running kernel.
type KernelModule struct {
	NodeRef

	Name         string   `json:"name"`            // The module, nvme.
	Type         string   `json:"type"`            // dynamic or built-in; empty before Talos 1.14.
	State        string   `json:"state"`           // live, loading, unloading or built-in.
	SizeBytes    int64    `json:"size_bytes"`      // The memory that it takes; 0 for a built-in one.
	References   int      `json:"reference_count"` // How many others use it.
	Dependencies []string `json:"dependencies"`    // The modules that it needs; never null.
}

// KernelModules lists the modules of the kernel, from Talos 1.14 on those that are built in too. Roles: reader,
// operator, admin.
func (n *Node) KernelModules(ctx context.Context) ([]KernelModule, error) {
	type spec struct {
		Type           string   `json:"type"`
		State          string   `json:"state"`
		Size           int64    `json:"size"`
		ReferenceCount int      `json:"referenceCount"`
		Dependencies   []string `json:"dependencies"`
	}

	list := func(typ string) ([]KernelModule, error) {
		return View[spec, KernelModule]{
			Namespace: "runtime", Type: typ,
			Row: func(id string, s spec) KernelModule {
				return KernelModule{
					Name: id, Type: s.Type, State: strings.ToLower(s.State), SizeBytes: s.Size, References: s.ReferenceCount, Dependencies: notNil(s.Dependencies),
				}
			},
		}.List(ctx, n)
	}

	out, err := list("KernelModuleStatuses.runtime.talos.dev")
	if len(out) > 0 || conn.KindOf(err) == errs.KindUnreachable || conn.KindOf(err) == errs.KindTimeout {
		return out, err
	}

	return list("LoadedKernelModules.runtime.talos.dev") // before Talos 1.14
}
