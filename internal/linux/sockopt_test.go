package linux

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// SetBack sets an option, and says so if it can't.
func TestSetBack(t *testing.T) {
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	if err := (SockOpt{unix.SOL_SOCKET, unix.SO_PASSCRED, 1}).SetBack(n); err != nil {
		t.Fatal(err)
	}
	if on, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_PASSCRED); err != nil || on != 1 {
		t.Errorf("SO_PASSCRED is %d (%v)", on, err)
	}
	if err := (SockOpt{unix.SOL_SOCKET, 9999, 1}).SetBack(n); !errors.Is(err, unix.ENOPROTOOPT) {
		t.Errorf("an option that there is not: %v", err)
	}
}
