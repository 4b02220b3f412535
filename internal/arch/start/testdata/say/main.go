// Command say prints what it was started with.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	_ "glis.dev/glis/internal/arch/start"
)

func main() {
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"args": os.Args, "env": os.Environ(), "cpus": runtime.GOMAXPROCS(0), "page": os.Getpagesize(),
		"heap": heap(fmt.Sprintf("%p", new([64]byte))), "room": room(), "limit": limit(),
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

// room is how many descriptors there is room for.
func room() (n int) {
	all, _ := os.ReadFile("/proc/self/status")
	_, line, _ := strings.Cut(string(all), "FDSize:")
	_, _ = fmt.Sscan(line, &n)
	return n
}

// limit is the soft limit that the program was started with: Go hands it on.
func limit() string {
	out, _ := exec.Command("/bin/sh", "-c", "ulimit -Sn").Output()
	return strings.TrimSpace(string(out))
}

func place(hex string) uint64 {
	n, _ := strconv.ParseUint(hex, 16, 64)
	return n
}
