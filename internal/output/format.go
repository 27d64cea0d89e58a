// Package output prints results: a table for people, and for programs one document (json, yaml), one object a line
// (ndjson) or only the names.
package output

import (
	"fmt"
	"strings"
)

// Format is an output format.
type Format string

// The formats of `-o`.
const (
	Table  Format = "table"
	Wide   Format = "wide"
	JSON   Format = "json"
	YAML   Format = "yaml"
	NDJSON Format = "ndjson"
	Name   Format = "name"
)

// Formats lists every format in the order of the help text.
func Formats() []string { return []string{"table", "wide", "json", "yaml", "ndjson", "name"} }

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	for _, f := range Formats() {
		if s == f {
			return Format(f), nil
		}
	}

	return "", fmt.Errorf("unknown output format %q, want one of %s, %s=…", s, strings.Join(Formats(), ", "), strings.Join(Views(), "=…, "))
}

// Structured reports whether the format is meant for programs and has the envelope.
func (f Format) Structured() bool { return f == JSON || f == YAML || f == NDJSON }
