package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// What fdinfo doesn't tell before Linux 6.5 is read from the kernel's memory.
func TestSemaphoreUntold(t *testing.T) {
	memory := kmem.Share("?" + eventFlags)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	defer memory.Close() //nolint:errcheck // the test ends
	k := &Eventfd{memory: memory}
	for _, want := range []bool{false, true} {
		flags := unix.EFD_CLOEXEC | unix.EFD_NONBLOCK
		if want {
			flags |= unix.EFD_SEMAPHORE
		}
		n, err := unix.Eventfd(7, flags)
		if err != nil {
			t.Fatal(err)
		}
		d := fd.New(n)
		defer d.Close() //nolint:errcheck // the test ends
		is, err := k.isSemaphore(nil, &proc.Eventfd{Count: 7}, d)
		if err != nil || is != want {
			t.Errorf("a semaphore: %v, %v, want %v", is, err, want)
		}
	}
}
