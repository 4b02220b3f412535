package cli

import (
	"fmt"
	"io"
	"runtime"
)

const (
	// criuVersion is the version of criu that Glis stands in for. LXC
	// compares it as text.
	criuVersion = "4.2"
	// glisVersion is Glis's own version.
	glisVersion = "0.1.0"
)

// printVersion writes criu's line first: tools read it there. There is no
// "GitID:" line, from which go-criu would conclude that this is a newer one.
func printVersion(w io.Writer) {
	fmt.Fprintf(w, "Version: %s\nGlis: %s (%s/%s, %s)\n",
		criuVersion, glisVersion, runtime.GOOS, runtime.GOARCH, runtime.Version())
}
