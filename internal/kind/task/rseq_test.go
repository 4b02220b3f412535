package task

import (
	"encoding/binary"
	"runtime"
	"testing"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// TestFixRseq freezes a program inside a restartable sequence: it must go on at
// the abort handler, which the signature in front of it marks.
func TestFixRseq(t *testing.T) {
	pid := start(t, "rseq.c")
	for moved := false; !moved; runtime.Gosched() {
		err := tracee.Run(func() error {
			task, err := freeze(pid) // with FixRseq
			if err != nil {
				return err
			}
			th := task.Leader()
			if th.Rseq.Pointer == 0 {
				t.Error("no registration; the C library should have made one")
				moved = true
				return release(task)
			}
			var b [4]byte
			if err := remote.ReadFull(pid, remote.Addr(arch.IP(&th.Regs)-4), b[:]); err != nil {
				return err
			}
			moved = binary.LittleEndian.Uint32(b[:]) == th.Rseq.Signature
			return release(task)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
