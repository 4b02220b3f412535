// Package test saves and restores whole programs with the engine's binary.
package test

import (
	"os"
	"testing"

	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
