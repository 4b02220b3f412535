// Command say prints what it was started with.
package main

import (
	"encoding/json"
	"os"
	"runtime"

	_ "glis.dev/glis/internal/arch/start"
)

func main() {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"args": os.Args, "env": os.Environ(), "cpus": runtime.GOMAXPROCS(0), "page": os.Getpagesize(),
	})
}
