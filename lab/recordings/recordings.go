// Package recordings holds the raw answers of real Talos clusters that the lab serves by default. The files are never
// edited; see README.md in this directory.
package recordings

import "embed"

// FS holds every recording, by the path README.md describes.
//
//go:embed talos-v1.13.8 talos-v1.13.9 talos-v1.14.0-rc.1
var FS embed.FS
