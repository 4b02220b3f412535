package socket

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
)

// What is bound to an interface that is gone is refused, with what can be done.
func TestInterfaceGone(t *testing.T) {
	a, _ := newPair(t)
	if err := unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1<<30); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t)
	_, err := k.Save(a, make([]Value, len(k.Table)), true)
	if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "SO_BINDTODEVICE") {
		t.Errorf("error %v", err)
	}
}
