package remote

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
)

// Read copies from a task's memory, see process_vm_readv(2). It returns how
// much could be read; a short read is not an error unless nothing was read.
func Read(pid proc.PID, at Addr, buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	return unix.ProcessVMReadv(int(pid), local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
}

// ReadFull is Read that fails unless all was read.
func ReadFull(pid proc.PID, at Addr, buf []byte) error {
	n, err := Read(pid, at, buf)
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("task %d: read %d bytes at %#x: %w", pid, len(buf), at, err)
	}
	return nil
}

// Write copies into a task's writable memory, see process_vm_writev(2).
func Write(pid proc.PID, at Addr, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMWritev(int(pid), local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	if err == nil && n < len(buf) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("task %d: write %d bytes at %#x: %w", pid, len(buf), at, err)
	}
	return nil
}

// OpenMem opens /proc/PID/mem, which reads and writes whatever the
// protection of a page says. The caller closes it.
func OpenMem(pid proc.PID) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
}
