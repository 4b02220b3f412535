package file

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// What is more than the line discipline takes (lineRoom) waits in the kernel's
// buffers, and a terminal may have 8 KiB of these, by their halves: each has
// room for twice as much as it counts (drivers/tty/tty_buffer.c). Buffers of the
// smallest size stay with the terminal when they are empty, and may be used
// beyond that. So that as much fits as ever did, what the line discipline is to
// take goes by the smallest ones; then two pieces fill a buffer whole, and
// the last one, that may go beyond the 8 KiB, is the largest that there is.
const (
	lineRoom    = 4095
	smallPiece  = 256
	middlePiece = 1024
	largePiece  = 1792 // TTY_BUFFER_PAGE
	middleRoom  = 2 * 8192
)

// pieces is how many bytes are written at once, from where on.
var pieces = []struct{ from, size int }{{lineRoom + middleRoom, largePiece}, {lineRoom, middlePiece}, {0, smallPiece}}

// writeAll writes to one end what the other one is to get.
func writeAll(to, other *fd.FD, data []byte) error {
	if len(data) >= lineRoom {
		again, err := withoutWait(to)
		if err != nil {
			return err
		}
		defer again()
	}
	for at, full := 0, false; at < len(data); {
		size := smallPiece
		for _, p := range pieces {
			if at >= p.from && !full {
				size = p.size
				break
			}
		}
		if at < lineRoom {
			size = min(size, lineRoom-at)
		} else if at == lineRoom {
			awaitLine(other)
		}
		n, err := writeSoon(to, data[at:min(at+size, len(data))])
		switch {
		case err == nil:
			at += n
		case full || !errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("put %d bytes back: %w", len(data)-at, err)
		default:
			full = true
		}
	}
	_, err := settleTTY(other)
	return err
}

// soon is how long the kernel may take to hand on what was written, at most.
const soon = 20 * time.Millisecond

// writeSoon writes as soon as there is room.
func writeSoon(d *fd.FD, data []byte) (int, error) {
	for end := time.Now().Add(soon); ; time.Sleep(100 * time.Microsecond) {
		n, err := unix.Write(d.Int(), data)
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return n, err
		}
	}
}

// awaitLine gives a line discipline time to take all that it has room for. One
// that knows lines takes less at times.
func awaitLine(d *fd.FD) {
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		if n, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ); err != nil || n >= lineRoom {
			return
		}
	}
}

// withoutWait has writes fail that have no room, until it is taken back.
func withoutWait(d *fd.FD) (again func(), err error) {
	old, err := unix.FcntlInt(uintptr(d.Int()), unix.F_GETFL, 0)
	if err != nil || old&unix.O_NONBLOCK != 0 {
		return func() {}, err
	}
	_, err = unix.FcntlInt(uintptr(d.Int()), unix.F_SETFL, old|unix.O_NONBLOCK)
	return func() { unix.FcntlInt(uintptr(d.Int()), unix.F_SETFL, old) }, err
}
