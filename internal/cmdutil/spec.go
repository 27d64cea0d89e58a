// Package cmdutil is what every command is made of: the factory that hands out streams, settings and
// clusters when they are needed, the declaration of what a command may do, and the shared shapes.
package cmdutil

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/talos/target"
)

// Kind says what a command does to a cluster.
type Kind string

// The kinds.
const (
	Read        Kind = "read"        // Looks only.
	Change      Kind = "change"      // Reversible or service-affecting.
	Destructive Kind = "destructive" // Data loss, or node loss.
)

// Talos roles, as they stand in certificates. They are sets, not a ladder.
const (
	RoleAdmin      = "os:admin"
	RoleOperator   = "os:operator"
	RoleReader     = "os:reader"
	RoleEtcdBackup = "os:etcd:backup"
)

// Readers may do what the API counts as reading.
func Readers() []string { return []string{RoleReader, RoleOperator, RoleAdmin} }

// EtcdReaders may also hold the backup role.
func EtcdReaders() []string { return append(Readers(), RoleEtcdBackup) }

// Operators may restart things.
func Operators() []string { return []string{RoleOperator, RoleAdmin} }

// Admins may do everything.
func Admins() []string { return []string{RoleAdmin} }

// Spec declares a command: the catalogue, the safety layer and the generated documentation read it.
type Spec struct {
	Kind     Kind     `json:"kind"`               // read, change or destructive.
	Roles    []string `json:"roles"`              // The Talos roles of which any one suffices; empty when none is needed.
	Schema   string   `json:"schema,omitempty"`   // The name of its document's schema; New sets it.
	Offline  bool     `json:"offline,omitempty"`  // It never dials.
	Local    bool     `json:"local,omitempty"`    // What it changes is on this machine or in a registry: no node is chosen.
	Since    string   `json:"since,omitempty"`    // The first Talos version that has the calls.
	Insecure bool     `json:"insecure,omitempty"` // It works in maintenance mode with --insecure.
	Question bool     `json:"question,omitempty"` // It asks a question; a node that is missing makes the answer no.
	OneNode  bool     `json:"one_node,omitempty"` // It acts on exactly one node.
	Named    bool     `json:"named,omitempty"`    // Its argument names what it acts on; -n only says whom to ask.

	Default target.Default `json:"-"` // What a read asks when no node was chosen, and a change that only previews without --apply.

	single bool // The document has one result instead of items.
}

const specAnnotation = "talosmate/spec"

// Publish notes the type of a file that the user writes, so that its schema is published beside the documents'.
func (f *Factory) Publish(schema string, file any) { f.documents[schema] = file }

// SpecOf reads the declaration of a command; ok is false for groups and help topics.
func SpecOf(cmd *cobra.Command) (s Spec, ok bool) {
	raw, ok := cmd.Annotations[specAnnotation]
	if !ok {
		return s, false
	}

	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return s, false
	}

	return s, true
}
