package linux

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// A program is loaded whatever signals come meanwhile.
func TestLoadInterrupted(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Many instructions, so that it takes long to check them.
	prog := make([]BPFInsn, 4000)
	for i := range prog {
		prog[i] = BPFInsn{Code: 0xb7} // r0 = 0
	}
	prog[len(prog)-1] = BPFInsn{Code: 0x95} // exit
	tid, done := unix.Gettid(), make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Microsecond):
				_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // Go ignores it
			}
		}
	}()
	for range 50 {
		fd, err := BPFLoadClassifier(prog, "GPL")
		testkit.Lacks(t, "programs of BPF", err)
		unix.Close(fd)
	}
	close(done)
	<-stopped
}
