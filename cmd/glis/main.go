// Command glis saves running Linux processes and brings them back. Called as
// criu it does the same.
package main

import (
	"os"
	"runtime/debug"

	"glis.dev/glis"
	"glis.dev/glis/internal/cli"
	"glis.dev/glis/internal/demo"
	"glis.dev/glis/internal/tracee"
)

// memoryLimit is the size of the heap, in bytes, from which on garbage is
// collected all the time; with what else it needs the engine stays below 64 MiB,
// whatever the target's size. Below, Go collects when the heap has doubled, from 4 MiB on, and not
// at all for a small tree or if it has huge pages (beSmall, growHeap).
const memoryLimit = 48 << 20

func main() {
	cpus := beAlone(os.Args[1:])
	rest()
	glis.Init()
	demo.Serve()
	debug.SetMemoryLimit(memoryLimit)
	_ = tracee.QuietStops() // only spares time
	os.Exit(cli.Main(engine{cpus: cpus}))
}
