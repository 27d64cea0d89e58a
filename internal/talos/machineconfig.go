package talos

import (
	"context"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"go.yaml.in/yaml/v4"
)

// MachineConfig reads the active machine configuration as the node holds it: YAML, one or more documents.
// Role: admin.
func (n *Node) MachineConfig(ctx context.Context) ([]byte, error) {
	resp, err := n.state().Get(ctx, &cosi.GetRequest{Namespace: "config", Type: "MachineConfigs.config.talos.dev", Id: "v1alpha1"})
	if err != nil {
		return nil, n.fail("read the machine configuration", err)
	}

	spec := resp.GetResource().GetSpec().GetYamlSpec()

	// Talos wraps the configuration into a YAML string, since it may be several documents; older nodes do not.
	var wrapped string
	if err := yaml.Unmarshal([]byte(spec), &wrapped); err == nil {
		return []byte(wrapped), nil
	}

	return []byte(spec), nil
}
