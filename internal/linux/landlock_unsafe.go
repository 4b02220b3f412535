package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// LandlockRuleset returns a new set of rules, without any, for these rights to files.
func LandlockRuleset(handled uint64) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}
