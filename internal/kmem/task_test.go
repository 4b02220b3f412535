package kmem

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTask(t *testing.T) {
	r := open(t, "task_struct.tgid", "task_struct.mm")
	n, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	at, err := r.Task(n)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Struct("task_struct", at)
	if err != nil {
		t.Fatal(err)
	}
	mm, err := r.Pointer(at + r.Off("task_struct.mm"))
	if err != nil || mm == 0 {
		t.Errorf("its memory is at %#x: %v", mm, err)
	}
	// In a PID namespace the kernel knows us by another number.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if tgid := s.U32("task_struct.tgid"); tgid == 0 || strings.Count(string(status), "NSpid:\t") == 0 {
		t.Errorf("the kernel has it as %d", tgid)
	}
}

func TestPerCPU(t *testing.T) {
	r := open(t)
	all, err := r.PerCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < runtime.NumCPU() {
		t.Errorf("%d CPUs, this process may run on %d", len(all), runtime.NumCPU())
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a == b {
				t.Errorf("two CPUs have the same memory")
			}
		}
	}
}
