// Package startup keeps the garbage collector out of what every run pays. Before main some five hundred packages
// of Kubernetes, Talos and protobuf fill their tables, which all stay: collecting them twice on the way cost a
// quarter of the CPU time of `talosmate --help`. Go initializes packages in the order of their paths where imports
// leave a choice, and this one imports next to nothing, so that it comes before the large ones.
package startup

import "runtime/debug"

// untilWork lets the heap grow to 16 MiB before the first collection, since the least heap is 4 MiB at 100 percent.
const untilWork = 400

var usual = debug.SetGCPercent(untilWork) // The user's, by $GOGC, or 100.

// Over tells that work begins, and with it the usual collection. It is called before anything is dialled.
func Over() { debug.SetGCPercent(usual) }
