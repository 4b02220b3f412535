package main

import (
	"os"
	"os/exec"
	"testing"

	"glis.dev/glis/internal/proc"
)

// A process with little to it is small, until it has many files open.
func TestSmallTree(t *testing.T) {
	for files, want := range map[int]bool{0: true, fewFiles: false} {
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		for range files {
			cmd.ExtraFiles = append(cmd.ExtraFiles, null)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got := smallTree(proc.PID(cmd.Process.Pid)); got != want {
			t.Errorf("with %d files more: %v", files, got)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		null.Close()
	}
	if smallTree(0) {
		t.Error("no process is small")
	}
}
