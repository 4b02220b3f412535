// Package glis saves running Linux processes and brings them back.
package glis

import (
	"glis.dev/glis/internal/dump"
	"glis.dev/glis/internal/guardian"
)

// Init must be called first thing in main by every program that dumps or
// restores. Glis starts the program again as the guardian of each dump and
// restore: a process that takes everything back, or brings it to its end,
// should the program be killed. In such a process Init does not return.
func Init() { guardian.Main(guardian.Hooks{Discard: dump.Discard}) }
