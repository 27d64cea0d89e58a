// Package startup keeps the garbage collector from collecting small heaps. Before main some five hundred packages of
// Kubernetes, Talos and protobuf fill tables that stay in memory. Collecting them twice took a quarter of the CPU time of
// `talosmate --help`, and collecting a heap of 5 MiB again and again a fifth of that of asking 500 nodes. Go initializes
// independent packages in the order of their paths, and this one imports almost nothing, so it comes before the large ones.
package startup

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	// whileSmall lets the heap grow to 16 MiB before the first collection, since the minimum heap is 4 MiB at 100 percent, and
	// then to five times what is in use.
	whileSmall = 400
	// small is how many bytes in use are collected that seldom: at most 40 MiB are taken for them.
	small = 8 << 20

	// ofGo is Go's own percentage, where the user sets none with $GOGC.
	ofGo = 100
)

// usual is the user's setting, from $GOGC, or 100.
var usual = debug.SetGCPercent(whileSmall) //nolint:gochecknoglobals // the one thing that has to happen before main

// once starts the watch over the heap.
var once sync.Once //nolint:gochecknoglobals // as usual is

// Over is called when work begins, before anything is dialled. It restores the user's setting, if there is one, else Go's as
// soon as more than a small heap is in use.
func Over() {
	if usual != ofGo {
		debug.SetGCPercent(usual)

		return
	}

	once.Do(func() { runtime.SetFinalizer(&collection{self: new(int)}, (*collection).ended) })
}

// collection is garbage, whose finalizer runs at the end of the next collection.
type collection struct{ self *int }

func (c *collection) ended() {
	inUse := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(inUse)

	if inUse[0].Value.Kind() != metrics.KindUint64 || inUse[0].Value.Uint64() > small {
		debug.SetGCPercent(usual)

		return
	}

	runtime.SetFinalizer(c, (*collection).ended)
}
