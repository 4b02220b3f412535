// Command glis saves running Linux processes and brings them back. Called as
// criu it does the same.
package main

import (
	"os"

	"glis.dev/glis/internal/cli"
)

func main() {
	os.Exit(cli.Main(engine{}))
}
