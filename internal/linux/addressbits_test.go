package linux

import (
	"os"
	"regexp"
	"runtime"
	"testing"
)

// A kernel with page tables of five levels says so.
func TestKernelAddressBits(t *testing.T) {
	got, err := KernelAddressBits()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("only x86-64 tells how many levels there are")
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	want := fourLevels
	if regexp.MustCompile(`(?m)^flags.*\bla57\b`).Match(info) {
		want = fiveLevels
	}
	if got != want {
		t.Errorf("%d bits, want %d", got, want)
	}
}
