package restore

import (
	"golang.org/x/sys/unix"
)

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
