package testkit

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BuildC compiles one C file (path relative to the test's folder) with gcc and
// the extra flags, once per test run, and returns the executable's path.
func BuildC(t testing.TB, src string, flags ...string) string {
	t.Helper()
	RequireProgram(t, "gcc", "gcc")
	args := append([]string{"-O1", "-g", "-Wall", "-Werror", "-pthread", "-D_GNU_SOURCE"}, flags...)
	return cached(t, src, flags, func(out string) *exec.Cmd {
		return exec.Command("gcc", append(args, "-o", out, src, "-lm")...)
	})
}

// BuildGo compiles the main package at path (relative to the test's folder)
// without cgo, once per test run, and returns the executable's path.
func BuildGo(t testing.TB, path string) string {
	t.Helper()
	return cached(t, path, nil, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-o", out, path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	})
}

// LinkFlags are those of Makefile, which have the program begin as package
// internal/arch/start says.
const LinkFlags = "-ldflags=-E=glis_start"

// BuildGlis is BuildGo for a program that begins as Glis does.
func BuildGlis(t testing.TB, path string) string {
	t.Helper()
	return cached(t, path, []string{LinkFlags}, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", LinkFlags, "-o", out, path)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		return cmd
	})
}

// cached runs the command that build returns unless its output is there.
func cached(t testing.TB, src string, flags []string, build func(out string) *exec.Cmd) string {
	t.Helper()
	dir := os.Getenv(cacheEnv)
	if dir == "" {
		t.Fatal("testkit: no cache folder: let TestMain call testkit.Main")
	}
	out := filepath.Join(dir, cacheName(src, flags))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if msg, err := build(out).CombinedOutput(); err != nil {
		t.Fatalf("testkit: build %s: %v\n%s", src, err, msg)
	}
	return out
}

// cacheName keeps the program's own name readable (it becomes its comm) and
// keeps builds of one source with other flags apart.
func cacheName(src string, flags []string) string {
	base := strings.TrimSuffix(filepath.Base(src), ".c")
	sum := sha256.Sum256([]byte(src + "\x00" + strings.Join(flags, "\x00")))
	return fmt.Sprintf("%s-%x", base, sum[:3])
}
