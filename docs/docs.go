// Package docs carries the published JSON Schemas, so that `talosmate schema` can print them.
package docs

import "embed"

// Schemas holds schemas/NAME.json for every document.
//
//go:embed schemas/*.json
var Schemas embed.FS
