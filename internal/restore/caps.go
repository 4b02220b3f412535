package restore

import (
	"golang.org/x/sys/unix"
)

// capable tells whether the engine has a capability in effect.
func capable(capability int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	return capability >= 0 && capability < 64 && data[capability/32].Effective>>(capability%32)&1 != 0
}
