// Command glis saves running Linux processes and brings them back. Called as
// criu it does the same.
package main

import (
	"os"

	"glis.dev/glis"
	"glis.dev/glis/internal/cli"
	"glis.dev/glis/internal/demo"
	"glis.dev/glis/internal/tracee"
)

func main() {
	cpus := beAlone(os.Args[1:])
	rest()
	glis.Init()
	demo.Serve()
	limitMemory()
	_ = tracee.QuietStops() // only spares time
	os.Exit(cli.Main(engine{cpus: cpus}))
}
