package file

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Whether an eventfd is a semaphore (EFD_SEMAPHORE) is in its fdinfo since Linux 6.5.
// Before, the kernel's memory alone tells.

// eventFlags is where the kernel has the flags that an eventfd was made with.
const eventFlags = "eventfd_ctx.flags"

// KernelNames implements kind.MemoryUser.
func (*Eventfd) KernelNames() (names []string) {
	if cgroupsWrite() { // to look for them takes time
		names = eventNames
	}
	if !semaphoresTold() {
		names = append(names[:len(names):len(names)], "?"+eventFlags)
	}
	return names
}

// UseMemory implements kind.MemoryUser.
func (k *Eventfd) UseMemory(m *kmem.Shared) { k.memory, k.v1 = m, sync.OnceValue(cgroupsWrite) }

// AsksMemory implements kind.MemoryAsker.
func (k *Eventfd) AsksMemory(link string) bool {
	return link == eventfdLink && (cgroupsWrite() || !semaphoresTold())
}

// semaphoresTold tells whether fdinfo says which eventfd is a semaphore.
var semaphoresTold = sync.OnceValue(func() bool {
	n, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return true // isSemaphore sees to it
	}
	defer unix.Close(n)
	self, err := proc.Open(proc.PID(unix.Getpid()))
	if err != nil {
		return true
	}
	defer self.Close()
	info, err := self.FDInfo(int32(n))
	return err != nil || info.Eventfd == nil || info.Eventfd.Told
})

func (k *Eventfd) isSemaphore(f *scan.File, info *proc.Eventfd, d *fd.FD) (bool, error) {
	if info.Told {
		return info.Semaphore, nil
	}
	flags, err := readEventFlags(k.memory, d)
	if err != nil {
		return false, kind.Unsupported(f, "before Linux 6.5 the kernel doesn't tell whether it is a semaphore (EFD_SEMAPHORE): %v; run Glis with CAP_BPF and CAP_PERFMON, or let the program close it", err)
	}
	return flags&semaphore != 0, nil
}

func readEventFlags(memory *kmem.Shared, d *fd.FD) (uint32, error) {
	r, err := memory.Reader()
	if err != nil {
		return 0, err
	}
	if !r.Has(eventFlags) {
		return 0, fmt.Errorf("%w: no %s", kmem.ErrUnavailable, eventFlags)
	}
	at, err := r.PrivateOf(d.Int())
	if err != nil {
		return 0, err
	}
	var b [4]byte
	err = r.ReadAt(b[:], at+r.Off(eventFlags))
	return binary.NativeEndian.Uint32(b[:]), err
}
