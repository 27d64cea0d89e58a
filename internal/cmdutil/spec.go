// Package cmdutil is what every command is made of: the factory that hands out streams, settings and
// clusters when they are needed, the declaration of what a command may do, and the shared shapes.
package cmdutil

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/talos"
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
	Schema   string   `json:"schema,omitempty"`   // The name of its document's schema.
	Offline  bool     `json:"offline,omitempty"`  // It never dials.
	Local    bool     `json:"local,omitempty"`    // What it changes is on this machine or in a registry: no node is chosen.
	Since    string   `json:"since,omitempty"`    // The first Talos version that has the calls.
	Insecure bool     `json:"insecure,omitempty"` // It works in maintenance mode with --insecure.
	Question bool     `json:"question,omitempty"` // It asks a question; a node that is missing makes the answer no.
	OneNode  bool     `json:"one_node,omitempty"` // It acts on exactly one node.
	Named    bool     `json:"named,omitempty"`    // Its argument names what it acts on; -n only says whom to ask.

	Default  talos.Default `json:"-"` // What a read asks when no node was chosen.
	Raw      bool          `json:"-"` // Its stdout is bytes, not a document, unless -o is given.
	Document any           `json:"-"` // A value of the document's type: output.List[Row]{} or output.Single[Result]{}.
}

// single says whether the document has one result instead of items.
func (s Spec) single() bool {
	if s.Document == nil {
		return false
	}

	_, has := reflect.TypeOf(s.Document).FieldByName("Result")

	return has
}

const specAnnotation = "talosmate/spec"

// Declare attaches the spec and the flags that its kind brings, and notes the document's type for the schemas.
func (f *Factory) Declare(cmd *cobra.Command, s Spec) {
	if s.Schema != "" {
		f.documents[s.Schema] = s.Document
	}

	raw, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("spec of %s: %v", cmd.Name(), err)) // a programming error, found by every test
	}

	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}

	cmd.Annotations[specAnnotation] = string(raw)

	if s.Insecure {
		cmd.Flags().Bool("insecure", false, "talk to a node in maintenance mode: dial it directly (-n), without a client certificate")
		cmd.Flags().String("cert-fingerprint", "", "with --insecure: SHA-256 fingerprint that the node's certificate must have")
	}

	if s.Kind == Read {
		return
	}

	cmd.Flags().Bool("dry-run", false, "show what would be done and change nothing")

	if !s.Offline && !s.Local {
		cmd.Flags().StringSlice("override", nil, "pass this safety `GATE` on purpose, by code (repeatable; see talosmate help gates)")
	}

	if s.Kind == Destructive {
		cmd.Flags().Bool("yes", false, "do not ask for confirmation")
	}
}

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
