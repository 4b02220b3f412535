// Command say prints what it was started with.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	_ "glis.dev/glis/internal/arch/start"
)

func main() {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"args": os.Args, "env": os.Environ(), "cpus": runtime.GOMAXPROCS(0), "page": os.Getpagesize(),
		"heap": heap(fmt.Sprintf("%p", new([64]byte))),
	})
}

// heap returns the flags of the mapping that has this address.
func heap(at string) (flags string) {
	all, _ := os.ReadFile("/proc/self/smaps")
	var has bool
	for line := range strings.Lines(string(all)) {
		if from, to, ok := strings.Cut(strings.Fields(line)[0], "-"); ok {
			has = place(from) <= place(at[2:]) && place(at[2:]) < place(to)
		}
		if has && strings.HasPrefix(line, "VmFlags:") {
			return line
		}
	}
	return ""
}

func place(hex string) uint64 {
	n, _ := strconv.ParseUint(hex, 16, 64)
	return n
}
