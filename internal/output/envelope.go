package output

import (
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// SchemaID is a document's schema: talosmate/v1/ and its name. A name may begin with another version, v2/NodeAddResult: the
// version of a document is raised when one of its fields is removed or renamed, or changes its type.
func SchemaID(name string) string {
	if strings.Contains(name, "/") {
		return "talosmate/" + name
	}

	return "talosmate/v1/" + name
}

// Selection records which nodes were asked and what chose them.
type Selection struct {
	Source string   `json:"source"` // What chose the nodes: flags, context, members, endpoint or offline.
	Nodes  []string `json:"nodes"`  // The addresses that were asked.
}

// Header is the part of the envelope that every document shares.
type Header struct {
	Schema      string     `json:"schema"`              // The document's schema, talosmate/v1/ and a name.
	Context     string     `json:"context"`             // The talosconfig context, empty for offline commands.
	GeneratedAt time.Time  `json:"generated_at"`        // When the document was made, UTC.
	Selection   *Selection `json:"selection,omitempty"` // Which nodes were asked, absent for offline commands.
	Truncated   *Truncated `json:"truncated,omitempty"` // What is omitted because of --max-items or --max-bytes.
}

// List is the envelope of a list.
type List[T any] struct {
	Header
	Items  []T          `json:"items"`  // The rows, sorted by node and then by their natural key; never null.
	Errors []errs.Entry `json:"errors"` // What failed, one entry a node; never null.
}

// Single is the envelope of one result.
type Single[T any] struct {
	Header
	Result T            `json:"result"` // The result; null when the command failed before it had one.
	Errors []errs.Entry `json:"errors"` // What failed; never null.
}

// Record is the start of every ndjson object.
type Record struct {
	Type   string `json:"type"`             // One of item, error, event, summary.
	Schema string `json:"schema,omitempty"` // The schema of the items, in the first line only.
}

// Summary is the last ndjson line of a list.
type Summary struct {
	Items     int        `json:"items"`               // How many item lines came before.
	Errors    int        `json:"errors"`              // How many error lines came before.
	Truncated *Truncated `json:"truncated,omitempty"` // What is omitted because of --max-items or --max-bytes.
}
