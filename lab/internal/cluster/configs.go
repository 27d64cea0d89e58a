package cluster

import (
	"fmt"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	machinetype "github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/machine"
)

// kubernetesVersion is inside the ranges of Talos 1.12, 1.13 and 1.14.
const kubernetesVersion = "v1.35.4"

// configs generates machine configurations with machinery's own generator.
type configs struct {
	cluster *Cluster
	base    map[string]config.Provider
}

func newConfigs(c *Cluster) (*configs, error) {
	return &configs{cluster: c, base: map[string]config.Provider{}}, nil
}

// of makes the configuration of one node.
func (g *configs) of(name, kind, version string) (config.Provider, error) {
	base, err := g.generated(kind, version)
	if err != nil {
		return nil, err
	}

	if len(g.cluster.members) >= manyNodes {
		// a configuration of its own for each of hundreds of nodes would take longer than their boot
		return base, nil
	}

	return patched(base, "apiVersion: v1alpha1\nkind: HostnameConfig\nauto: off\nhostname: "+name+"\n")
}

// manyNodes is the number of nodes from which on workers share one configuration, and recorded resources are read when
// they are asked for.
const manyNodes = 50

func (g *configs) generated(kind, version string) (config.Provider, error) {
	key := kind + "/" + version
	if cfg, ok := g.base[key]; ok {
		return cfg, nil
	}

	contract, err := config.ParseContractFromVersion(version)
	if err != nil {
		return nil, err
	}

	if !contract.Greater(config.TalosVersion1_12) {
		contract = config.TalosVersion1_12
	}

	if g.cluster.Options.ConfigForm == FormV1Alpha1 && contract.Greater(config.TalosVersion1_13) {
		contract = config.TalosVersion1_13
	}

	input, err := generate.NewInput(g.cluster.Options.Name, "https://"+g.cluster.subnet.host(2).String()+":6443", kubernetesVersion[1:],
		generate.WithSecretsBundle(g.cluster.PKI.Bundle),
		generate.WithVersionContract(contract),
		generate.WithInstallDisk("/dev/sda"),
		generate.WithInstallImage(machine.InstallerImage(version, g.cluster.schematic(version))),
		generate.WithClusterDiscovery(g.cluster.Options.Discovery != faults.DiscoveryOff),
	)
	if err != nil {
		return nil, err
	}

	typ := machinetype.TypeWorker
	if kind == machine.ControlPlane {
		typ = machinetype.TypeControlPlane
	}

	cfg, err := input.Config(typ)
	if err != nil {
		return nil, err
	}

	if g.cluster.Options.Kubernetes == "none" {
		patch := "machine:\n  kubelet:\n    skipNodeRegistration: true\n"
		if contract.MultidocKubernetesConfigSupported() {
			patch = "apiVersion: v1alpha1\nkind: KubeNodeConfig\nskipNodeRegistration: true\n"
		}

		if cfg, err = patched(cfg, patch); err != nil {
			return nil, err
		}
	}

	if typ == machinetype.TypeControlPlane && g.cluster.vip != nil {
		document := fmt.Sprintf("apiVersion: v1alpha1\nkind: Layer2VIPConfig\nname: %s\nlink: eth0\n", g.cluster.vip.address)
		if cfg, err = patched(cfg, document); err != nil {
			return nil, err
		}
	}

	g.base[key] = cfg

	return cfg, nil
}

// patched applies a strategic merge patch.
func patched(cfg config.Provider, text string) (config.Provider, error) {
	patch, err := configpatcher.LoadPatch([]byte(text))
	if err != nil {
		return nil, err
	}

	out, err := configpatcher.Apply(configpatcher.WithConfig(cfg), []configpatcher.Patch{patch})
	if err != nil {
		return nil, err
	}

	return out.Config()
}
