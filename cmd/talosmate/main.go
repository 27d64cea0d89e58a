// Command talosmate is a companion to talosctl: the same clusters and the same talosconfig, with
// structured output, exit codes that tell the truth and orchestrations that never lose quorum.
package main

import (
	"os"

	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/iostreams"
)

func main() {
	os.Exit(app.Main(os.Args[1:], iostreams.System()))
}
