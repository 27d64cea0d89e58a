package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/talosmate/talosmate/lab/internal/faults"
	"github.com/talosmate/talosmate/lab/internal/images"
)

// Dump is the full state of a node, for tests.
type Dump struct {
	Name            string            `json:"name"`
	Address         string            `json:"address"`
	Type            string            `json:"type"`
	Powered         bool              `json:"powered"`
	Up              bool              `json:"up"`
	Stage           string            `json:"stage"`
	Ready           bool              `json:"ready"`
	UnmetConditions map[string]string `json:"unmet_conditions"`
	Sequence        string            `json:"sequence"`
	BootID          string            `json:"boot_id"`
	BootTime        time.Time         `json:"boot_time"`
	Version         string            `json:"version"`
	Slots           map[string]Slot   `json:"slots"`
	DefaultSlot     string            `json:"default_slot"`
	RunningSlot     string            `json:"running_slot"`
	RebootPending   bool              `json:"reboot_pending"`
	Installing      bool              `json:"installing"`
	// TornInstalls is how often the node went down while an installer ran.
	TornInstalls int                       `json:"torn_installs"`
	Services     map[string]Service        `json:"services"`
	Images       map[string][]images.Image `json:"images"`
	Containers   []Container               `json:"containers"`
	DiskSize     int64                     `json:"disk_size_bytes"`
	DiskUsed     int64                     `json:"disk_used_bytes"`
	DiskFree     int64                     `json:"disk_free_bytes"`
	Config       string                    `json:"config_sha256"`
	Persisted    string                    `json:"persisted_config_sha256"`
	Maintenance  bool                      `json:"maintenance"`
	TryPending   bool                      `json:"try_pending"`
	EtcdRunning  bool                      `json:"etcd_running"`
	Meta         map[uint8]string          `json:"meta"`
	History      History                   `json:"history"`
	Faults       []faults.Fault            `json:"faults"`
}

// Dump describes the node.
func (n *Node) Dump() Dump {
	size, free := n.Disk()
	armed := n.Faults.List()
	etcdRunning := n.Etcd != nil && n.Etcd.Running()

	n.mu.Lock()
	defer n.mu.Unlock()

	d := Dump{
		Name: n.Name, Address: n.Address.String(), Type: n.nodeType, Powered: n.powered, Up: n.up,
		Stage: n.stage.String(), Ready: n.ready(), UnmetConditions: map[string]string{}, Sequence: n.sequence,
		BootID: n.bootID, BootTime: n.bootTime, Version: n.versionTag(),
		Slots:       map[string]Slot{"A": n.slots[0], "B": n.slots[1]},
		DefaultSlot: slotName(n.defaultSlot), RunningSlot: slotName(n.runningSlot), RebootPending: n.fresh, Installing: n.installing,
		Services: map[string]Service{}, Images: map[string][]images.Image{},
		Containers: append([]Container{}, n.containers...),
		DiskSize:   size, DiskFree: free, DiskUsed: size - free,
		Config: hash(n.config), Persisted: hash(n.persisted), Maintenance: n.config == nil, TryPending: n.try != nil,
		EtcdRunning: etcdRunning, Meta: map[uint8]string{}, Faults: armed,
		History: History{
			Boots:    append([]time.Time{}, n.history.Boots...),
			Reboots:  append([]time.Time{}, n.history.Reboots...),
			Installs: append([]InstallRecord{}, n.history.Installs...),
		},
	}

	for _, r := range n.history.Installs {
		if r.Torn {
			d.TornInstalls++
		}
	}

	for _, u := range n.unmet {
		d.UnmetConditions[u.Name] = u.Reason
	}

	for id, s := range n.services {
		d.Services[id] = *s
	}

	for k, v := range n.meta {
		d.Meta[k] = v
	}

	for _, ns := range []images.Namespace{images.CRI, images.System, images.InMemory} {
		d.Images[string(ns)] = n.Images.List(ns)
	}

	return d
}

func (n *Node) ready() bool {
	return n.up && n.stage == runtime.MachineStageRunning && len(n.unmet) == 0
}

// Ready reports whether the node is running and nothing is unmet.
func (n *Node) Ready() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.ready()
}

func hash(cfg config.Provider) string {
	if cfg == nil {
		return ""
	}

	raw, err := cfg.Bytes()
	if err != nil {
		return err.Error()
	}

	h := sha256.Sum256(raw)

	return hex.EncodeToString(h[:])
}
