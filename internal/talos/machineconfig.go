package talos

import (
	"context"
	"errors"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
)

// MachineConfig reads the active machine configuration as the node holds it: YAML, one or more documents.
// Role: admin.
func (n *Node) MachineConfig(ctx context.Context) ([]byte, error) {
	return n.machineConfig(ctx, "v1alpha1")
}

// PersistedConfig reads the machine configuration of the node's next boot, which differs from the active one while
// another is staged or on trial. known is false on nodes that do not have the resource. Role: admin.
func (n *Node) PersistedConfig(ctx context.Context) (text []byte, known bool, err error) {
	text, err = n.machineConfig(ctx, "persistent")
	if KindOf(err) == errs.KindNotFound {
		return nil, false, nil
	}

	return text, err == nil, err
}

func (n *Node) machineConfig(ctx context.Context, id string) ([]byte, error) {
	resp, err := n.state().Get(ctx, &cosi.GetRequest{Namespace: "config", Type: "MachineConfigs.config.talos.dev", Id: id})
	if err != nil {
		return nil, n.fail("read the machine configuration", err)
	}

	spec := resp.GetResource().GetSpec().GetYamlSpec()

	// Talos wraps the configuration into a YAML string, since it may have several documents; older nodes do not.
	var wrapped string
	if err := foreign.YAML([]byte(spec), &wrapped); err == nil {
		return []byte(wrapped), nil
	} else if errors.Is(err, foreign.ErrTooLarge) {
		return nil, n.fail("read the machine configuration", err)
	}

	return []byte(spec), nil
}
