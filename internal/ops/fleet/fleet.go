// Package fleet gathers one document about a whole cluster: what runs where, and in which state. Assertions are
// evaluated over it, it is saved and compared before and after an upgrade, and shown by describe.
package fleet

import (
	"time"

	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Fleet is the state of the cluster at one time. It has no time stamps and no counters, so that two of them differ only
// where the cluster does. Lists are sorted and never null.
type Fleet struct {
	Context    string     `json:"context"`    // The talosconfig context.
	Nodes      []Node     `json:"nodes"`      // Every member, or the chosen ones, by address.
	Etcd       Etcd       `json:"etcd"`       // etcd, as all control planes see it.
	Health     Health     `json:"health"`     // The results of the health checks.
	Kubernetes Kubernetes `json:"kubernetes"` // The Kubernetes API.
}

// Node is one node. Values that could not be read are empty; `reachable` reports whether the node answered at all.
type Node struct {
	talos.NodeRef

	Type         string              `json:"type"`          // controlplane or worker, empty when discovery does not have it.
	Reachable    bool                `json:"reachable"`     // Whether the node's API answered.
	Version      string              `json:"version"`       // The running Talos version, v1.13.9.
	Arch         string              `json:"arch"`          // amd64 or arm64.
	Platform     string              `json:"platform"`      // metal, aws, container, …
	Stage        string              `json:"stage"`         // running, booting, maintenance, …
	Ready        bool                `json:"ready"`         // Whether the node reports itself as ready; false and not looked at when reachable is false.
	Unmet        []Unmet             `json:"unmet"`         // The conditions that are not met; never null.
	Boot         talos.Boot          `json:"boot"`          // Its current boot, and how that was identified.
	Services     []Service           `json:"services"`      // Its services by ID; never null.
	Schematic    string              `json:"schematic"`     // The Image Factory schematic, empty without one.
	Extensions   []Extension         `json:"extensions"`    // Its system extensions by name; never null.
	SecureBoot   bool                `json:"secure_boot"`   // Whether it booted with secure boot.
	Security     talos.SecurityState `json:"security"`      // How its boot and its kernel are protected.
	Kubelet      string              `json:"kubelet"`       // The Kubernetes version of its kubelet.
	InstallImage string              `json:"install_image"` // The installer image in its configuration; needs os:admin.
	ImageDrift   bool                `json:"image_drift"`   // Whether that image has another version than the one that runs.
	Disks        []Disk              `json:"disks"`         // Its disks by device; never null.
	Alerts       []Alert             `json:"alerts"`        // The diagnostics that it reports; never null.
	Kubernetes   KubeNode            `json:"kubernetes"`    // Its Kubernetes node.
}

// Unmet is one reason why a node is not ready.
type Unmet struct {
	Name   string `json:"name"`   // The condition, services or nodeReady.
	Reason string `json:"reason"` // What is missing.
}

// Service is one of a node's services.
type Service struct {
	ID     string `json:"id"`     // The service: apid, etcd, kubelet, …
	State  string `json:"state"`  // running, finished, failed, …
	Health string `json:"health"` // healthy, unhealthy, or unknown where there is no check.
}

// Extension is a system extension.
type Extension struct {
	Name    string `json:"name"`    // Its name.
	Version string `json:"version"` // Its version.
}

// Disk is a disk of a node.
type Disk struct {
	Device     string `json:"device"`      // The device, /dev/sda.
	SizeBytes  uint64 `json:"size_bytes"`  // Its size.
	Model      string `json:"model"`       // The model.
	SystemDisk bool   `json:"system_disk"` // Whether Talos is installed on it.
}

// Alert is a diagnostic that a node reports of itself.
type Alert struct {
	ID      string `json:"id"`      // Its ID, as https://talos.dev/diagnostic knows it.
	Message string `json:"message"` // Its message.
}

// KubeNode is the Kubernetes side of a node.
type KubeNode struct {
	Name        string `json:"name"`        // The Kubernetes node name, empty when it is not a member.
	Known       bool   `json:"known"`       // Whether the Kubernetes API reported it.
	Ready       bool   `json:"ready"`       // Whether it is Ready; false when not known.
	Schedulable bool   `json:"schedulable"` // Whether it is not cordoned; false when not known.
	Kubelet     string `json:"kubelet"`     // The version that the kubelet reported.
}

// Etcd is etcd as all control planes together report it.
type Etcd struct {
	Healthy  bool         `json:"healthy"`  // One leader, the same list everywhere, no alarm, every member answers.
	Known    bool         `json:"known"`    // Whether a member list could be read.
	Problems []string     `json:"problems"` // Why it is not healthy; never null.
	Members  []EtcdMember `json:"members"`  // Its members by name; never null.
}

// EtcdMember is one member.
type EtcdMember struct {
	ID      string   `json:"id"`      // The member ID in hex.
	Name    string   `json:"name"`    // Its name.
	Node    string   `json:"node"`    // The address of its node.
	Version string   `json:"version"` // The etcd version, empty when it did not answer.
	Learner bool     `json:"learner"` // Whether it does not vote yet.
	Healthy bool     `json:"healthy"` // Whether it answered and knows a leader.
	Alarms  []string `json:"alarms"`  // Its alarms; never null.
}

// Health is the result of the checks of `talosmate health`.
type Health struct {
	Healthy bool      `json:"healthy"` // Whether no check failed or is unknown.
	Failed  int       `json:"failed"`  // How many failed.
	Unknown int       `json:"unknown"` // How many have no answer.
	Warned  int       `json:"warned"`  // How many have a warning.
	Checks  []Finding `json:"checks"`  // The findings that are not ok; never null.
}

// Finding is a check that does not pass.
type Finding struct {
	ID       string `json:"id"`       // The check.
	Status   string `json:"status"`   // fail, warn or unknown.
	Node     string `json:"node"`     // The node, empty for the cluster.
	Hostname string `json:"hostname"` // Its hostname.
	Message  string `json:"message"`  // What was found.
}

// Kubernetes reports whether the Kubernetes API could be read.
type Kubernetes struct {
	Available bool   `json:"available"` // Whether its API answered.
	Reason    string `json:"reason"`    // Why not.
}

// Certificate is the client certificate in use.
type Certificate struct {
	Roles   []string   `json:"roles"`             // Its Talos roles; never null.
	Expires *time.Time `json:"expires,omitempty"` // When it expires, where known.
}

// Variables are the names that an assertion may use.
func Variables() []string { return []string{"context", "nodes", "etcd", "health", "kubernetes"} }

// Sample is a fleet with one of everything: an expression with a field that does not exist fails on it.
func Sample() Fleet {
	ref := talos.NodeRef{Node: "10.0.0.1", Hostname: "cp-1"}

	return Fleet{
		Context: "sample",
		Nodes: []Node{{
			NodeRef: ref, Type: target.ControlPlane, Reachable: true, Version: "v1.13.9", Unmet: []Unmet{{}}, Services: []Service{{}},
			Extensions: []Extension{{}}, Disks: []Disk{{}}, Alerts: []Alert{{}},
		}},
		Etcd:   Etcd{Problems: []string{}, Members: []EtcdMember{{Alarms: []string{}}}},
		Health: Health{Checks: []Finding{{}}},
	}
}
