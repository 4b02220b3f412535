package restore

import (
	"golang.org/x/sys/unix"
)

// bounded returns what tells whether the engine's bounding set has a capability.
// The kernel is asked once: there are dozens, and thousands of threads.
func bounded() func(capability int) bool {
	var set uint64
	for i := range 64 {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && v == 1 {
			set |= 1 << i
		}
	}
	return func(capability int) bool { return capability >= 0 && capability < 64 && set>>capability&1 != 0 }
}

// capable returns what tells whether the engine has a capability in effect.
// The kernel is asked once.
func capable() func(capability int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		data = [2]unix.CapUserData{}
	}
	return func(capability int) bool {
		return capability >= 0 && capability < 64 && data[capability/32].Effective>>(capability%32)&1 != 0
	}
}
