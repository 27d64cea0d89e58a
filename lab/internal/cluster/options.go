// Package cluster assembles simulated nodes into one Talos cluster.
package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
	"github.com/talosmate/talosmate/lab/internal/machine"
)

// Options describe a cluster.
type Options struct {
	Name           string
	ControlPlanes  int
	Workers        int
	Maintenance    int // nodes without configuration
	TalosVersion   string
	Mixed          map[string]string // node name to version
	Kubernetes     string            // none or real
	Seed           int64
	Dir            string
	Subnet         string // 127.x.y.0/24; empty picks a free one
	Install        time.Duration
	Shutdown       time.Duration
	Boot           time.Duration
	Member         time.Duration
	Learner        time.Duration // how long a joining etcd member stays a learner
	Cordon         time.Duration
	Teardown       time.Duration
	Countdown      time.Duration
	GCAge          time.Duration
	Etcd           bool
	EtcdQuotaBytes int64
	Unbootstrapped bool
	Schematic      string
	ConfigForm     string // documents or v1alpha1
	Preset         string
	KubeBin        string // directory with the Kubernetes bed's binaries
	// RenderedAPIServer runs the real API server with what the first control plane renders, from Talos 1.14 on.
	RenderedAPIServer bool

	VIP            string        // a virtual IP of the control planes: an address, or auto
	VIPLease       time.Duration // how long a virtual IP stays with a holder that lost its power
	ExtraAddresses string        // a number for every node, or NODE=ADDRESS[@LINK],...
	Bootloader     string        // grub or systemd-boot; empty for the one that fits the image
	Partitions     []string      // volumes with partitions of their own, on nodes with Talos 1.14 or later
	LVM            bool          // LVM devices and a RAID array on nodes with Talos 1.14 or later
	APIDLag        time.Duration // how long other nodes' apids are refused by a node that is back
	PlatformConfig bool          // the platform gives each node its first configuration at any time
	Discovery      string        // off or alone; empty for a discovery that shows every node
	LoadBalancer   bool          // an address in front of all control planes
	DHCP           bool          // a node in maintenance mode has another address than with its configuration
	Endpoints      string        // what the talosconfig names: nodes, load-balancer or vip
}

// The forms of the configurations: documents as the node's Talos generates them, or v1alpha1 as Talos 1.13 generates
// it, which clusters keep that were upgraded to 1.14.
const (
	FormDocuments = "documents"
	FormV1Alpha1  = "v1alpha1"
)

// The endpoints that a talosconfig can name.
const (
	EndpointNodes        = "nodes"
	EndpointLoadBalancer = "load-balancer"
	EndpointVIP          = "vip"
)

// Defaults is three control planes and two workers.
func Defaults() Options {
	return Options{
		Name: "lab", ControlPlanes: 3, Workers: 2, TalosVersion: "v1.14.1", Kubernetes: "none", Seed: 1,
		Install: time.Second, Shutdown: 500 * time.Millisecond, Boot: 2 * time.Second, GCAge: time.Hour, Etcd: true,
		Member: 5 * time.Second, Learner: 200 * time.Millisecond, Cordon: 2 * time.Second, Teardown: time.Second, Countdown: time.Second,
		VIPLease: time.Second, Endpoints: EndpointNodes, ConfigForm: FormDocuments,
	}
}

// Validate reports invalid options, and applies the preset.
func (o *Options) Validate() error {
	if err := o.applyPreset(); err != nil {
		return err
	}

	if o.ControlPlanes < 1 && o.Maintenance < 1 {
		return errors.New("a cluster needs a control plane")
	}

	if o.ControlPlanes+o.Workers+o.Maintenance > 2000 {
		return errors.New("at most 2000 nodes")
	}

	if o.Kubernetes != "none" && o.Kubernetes != "real" {
		return fmt.Errorf("kubernetes must be none or real, not %q", o.Kubernetes)
	}

	if !strings.HasPrefix(o.TalosVersion, "v1.") {
		return fmt.Errorf("talos version must look like v1.14.1, not %q", o.TalosVersion)
	}

	for node, version := range o.Mixed {
		if !strings.HasPrefix(version, "v1.") {
			return fmt.Errorf("version of %s must look like v1.14.1, not %q", node, version)
		}
	}

	if o.ConfigForm != FormDocuments && o.ConfigForm != FormV1Alpha1 {
		return fmt.Errorf("configuration form must be documents or v1alpha1, not %q", o.ConfigForm)
	}

	if o.Discovery != "" && o.Discovery != faults.DiscoveryOff && o.Discovery != faults.DiscoveryAlone {
		return fmt.Errorf("discovery must be off or alone, not %q", o.Discovery)
	}

	if o.Bootloader != "" && o.Bootloader != faults.GRUB && o.Bootloader != faults.SystemdBoot {
		return fmt.Errorf("boot loader must be grub or systemd-boot, not %q", o.Bootloader)
	}

	for _, label := range o.Partitions {
		if !machine.Promotable(label) {
			return fmt.Errorf("partitions must be some of ETCD, CRI, KUBELET and LOG, not %q", label)
		}
	}

	return o.validateEndpoints()
}

func (o *Options) validateEndpoints() error {
	switch {
	case o.Endpoints == EndpointNodes:
	case o.Endpoints == EndpointLoadBalancer && o.LoadBalancer:
	case o.Endpoints == EndpointVIP && o.VIP != "":
	case o.Endpoints == EndpointLoadBalancer || o.Endpoints == EndpointVIP:
		return fmt.Errorf("endpoints %s need --%s", o.Endpoints, o.Endpoints)
	default:
		return fmt.Errorf("endpoints must be nodes, load-balancer or vip, not %q", o.Endpoints)
	}

	return nil
}

func (o *Options) applyPreset() error {
	switch o.Preset {
	case "":
	case "single":
		o.ControlPlanes, o.Workers = 1, 0
	case "legacy":
		o.TalosVersion = "v1.12.9"
	case "mixed":
		o.Mixed = map[string]string{"worker-1": "v1.12.9", "worker-2": "v1.13.8"}
	case "factory":
		o.Schematic = "iscsi-tools,util-linux-tools"
	case "load":
		o.ControlPlanes, o.Workers, o.Etcd = 3, 497, false
	default:
		return fmt.Errorf("unknown preset %q: want single, legacy, mixed, factory or load", o.Preset)
	}

	return o.findSchematic()
}

// findSchematic turns the word empty and names of extensions into an ID.
func (o *Options) findSchematic() error {
	if o.Schematic == "" || regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(o.Schematic) {
		return nil
	}

	var names []string
	if o.Schematic != "empty" {
		names = strings.Split(o.Schematic, ",")
	}

	s, err := images.NewSchematic(names...)
	o.Schematic = s.ID()

	return err
}

// ParseMixed reads NODE=VERSION,NODE=VERSION.
func ParseMixed(text string) (map[string]string, error) {
	out := map[string]string{}

	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}

		node, version, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("want NODE=VERSION, not %q", part)
		}

		out[node] = version
	}

	return out, nil
}
