package file

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnknown(t *testing.T) {
	sock, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	own(t, sock, err)
	for n, want := range map[int]string{
		sock:                              "a socket of this family",
		open(t, "/proc/self/ns/uts", 0):   "a uts namespace",
		open(t, "/dev/fuse", unix.O_RDWR): "a character device 10:229",
	} {
		g := self(t)
		g.add(n)
		mustFail(t, g.dump(), want, fmt.Sprintf("descriptor %d", n))
	}
}
