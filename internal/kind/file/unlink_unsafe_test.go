package file

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unlinkQueue is mq_unlink(2): there need not be a file system of mqueue at mqueueRoot, and a
// name that stays counts against RLIMIT_MSGQUEUE of every program of the user.
func unlinkQueue(t *testing.T, name string) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
		t.Error(e)
	}
}
