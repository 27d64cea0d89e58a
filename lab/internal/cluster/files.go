package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/talosmate/talosmate/lab/internal/pki"
)

// Description is lab.json: the addresses and files of a running lab.
type Description struct {
	Name        string `json:"name"`
	Cluster     string `json:"cluster"`
	Dir         string `json:"dir"`
	Talosconfig string `json:"talosconfig"`
	Kubeconfig  string `json:"kubeconfig"`
	Control     string `json:"control"`
	PIDs        []int  `json:"pids"`
	Kubernetes  string `json:"kubernetes"`
	// VIP is the virtual IP of the control planes, and LoadBalancer the address in front of them; empty for none.
	VIP          string            `json:"vip,omitempty"`
	LoadBalancer string            `json:"load_balancer,omitempty"`
	Nodes        []NodeDescription `json:"nodes"`
}

// NodeDescription is one node in lab.json.
type NodeDescription struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Type    string `json:"type"`
	Version string `json:"version"`
	// Addresses are those that the node has in addition, without the virtual IP.
	Addresses []string `json:"addresses,omitempty"`
	// Maintenance is set for a node that waits for its configuration.
	Maintenance bool `json:"maintenance,omitempty"`
}

// DescriptionFile is the name of lab.json in a lab's directory.
const DescriptionFile = "lab.json"

// Describe returns the lab's description.
func (c *Cluster) Describe(control string, pids ...int) Description {
	d := Description{
		Name: "lab", Cluster: c.Options.Name, Dir: c.Options.Dir, Control: control, PIDs: pids, Kubernetes: c.Options.Kubernetes,
		Talosconfig: filepath.Join(c.Options.Dir, "talosconfig"),
	}

	if c.kubelet != nil {
		d.Kubeconfig = filepath.Join(c.Options.Dir, "kubeconfig")
	}

	if c.vip != nil {
		d.VIP = c.vip.address.String()
	}

	if c.balancer != nil {
		d.LoadBalancer = c.subnet.host(loadBalancerHost).String()
	}

	for _, m := range c.members {
		kind := m.Type()
		if m.Maintenance() {
			kind = "unknown"
		}

		node := NodeDescription{Name: m.Name, Address: c.addressNow(m).String(), Type: kind, Version: c.version(m.Name), Maintenance: m.Maintenance()}
		for _, e := range m.Extra() {
			node.Addresses = append(node.Addresses, e.Address.String())
		}

		d.Nodes = append(d.Nodes, node)
	}

	return d
}

// WriteFiles writes the talosconfig files: one for every role, one of another cluster, and an expired one.
func (c *Cluster) WriteFiles() error {
	if c.foreign == nil {
		foreign, err := pki.New()
		if err != nil {
			return err
		}

		c.foreign = foreign
	}

	for _, f := range []struct {
		name string
		pki  *pki.PKI
		role role.Role
		ttl  time.Duration
	}{
		{"talosconfig", c.PKI, role.Admin, pki.DefaultTTL()},
		{"talosconfig-operator", c.PKI, role.Operator, pki.DefaultTTL()},
		{"talosconfig-reader", c.PKI, role.Reader, pki.DefaultTTL()},
		{"talosconfig-etcd-backup", c.PKI, role.EtcdBackup, pki.DefaultTTL()},
		{"talosconfig-foreign", c.foreign, role.Admin, pki.DefaultTTL()},
		{"talosconfig-expired", c.PKI, role.Admin, -24 * time.Hour},
	} {
		cfg, err := f.pki.Talosconfig("lab", c.Endpoints(), role.MakeSet(f.role), f.ttl)
		if err != nil {
			return err
		}

		raw, err := cfg.Bytes()
		if err != nil {
			return err
		}

		if err := os.WriteFile(filepath.Join(c.Options.Dir, f.name), raw, 0o600); err != nil {
			return err
		}
	}

	return nil
}

// WriteDescription writes lab.json atomically.
func WriteDescription(d Description) error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}

	path := filepath.Join(d.Dir, DescriptionFile)
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return err
	}

	return os.Rename(path+".new", path)
}

// ReadDescription reads the lab.json of a directory.
func ReadDescription(dir string) (Description, error) {
	var d Description

	raw, err := os.ReadFile(filepath.Join(dir, DescriptionFile))
	if err != nil {
		return d, err
	}

	return d, json.Unmarshal(raw, &d)
}
