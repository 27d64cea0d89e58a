// Package startup delays the garbage collector until the program has work to do. Before main some five hundred packages
// of Kubernetes, Talos and protobuf fill tables that stay in memory. Collecting them twice took a quarter of the CPU
// time of `talosmate --help`. Go initializes independent packages in the order of their paths, and this one imports
// almost nothing, so it comes before the large ones.
package startup

import "runtime/debug"

// untilWork lets the heap grow to 16 MiB before the first collection, since the minimum heap is 4 MiB at 100 percent.
const untilWork = 400

// usual is the user's setting, from $GOGC, or 100.
var usual = debug.SetGCPercent(untilWork) //nolint:gochecknoglobals // the one thing that has to happen before main

// Over restores the usual collection. It is called when work begins, before anything is dialled.
func Over() { debug.SetGCPercent(usual) }
