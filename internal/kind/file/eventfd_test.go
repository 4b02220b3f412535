package file

import (
	"encoding/binary"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
)

func counter(t *testing.T, n int) uint64 {
	t.Helper()
	var b [8]byte
	if _, err := unix.Read(n, b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint64(b[:])
}

func addTo(t *testing.T, n int, v uint64) {
	t.Helper()
	write(t, n, string(binary.NativeEndian.AppendUint64(nil, v)))
}

func TestEventfd(t *testing.T) {
	for _, c := range []struct {
		what  string
		flags int
		count uint64
	}{
		{"empty", unix.EFD_NONBLOCK, 0},
		{"some", 0, 42},
		{"many", 0, 1 << 40},
		{"most", unix.EFD_NONBLOCK, math.MaxUint64 - 1},
		{"semaphore", unix.EFD_SEMAPHORE, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			num, err := unix.Eventfd(0, c.flags|unix.EFD_CLOEXEC)
			n := own(t, num, err)
			if c.count > 0 {
				addTo(t, n, c.count)
			}
			g := self(t)
			g.add(n)
			got := g.roundTrip()[1].Int()
			if want := flagsOf(t, n); flagsOf(t, got) != want {
				t.Errorf("flags are %#o, want %#o", flagsOf(t, got), want)
			}
			switch {
			case c.flags&unix.EFD_SEMAPHORE != 0:
				if a, b, c := counter(t, got), counter(t, got), counter(t, got); a != 1 || b != 1 || c != 1 {
					t.Errorf("semaphore gave %d, %d, %d", a, b, c)
				}
			case c.count > 0:
				if v := counter(t, got); v != c.count {
					t.Errorf("counter is %d, want %d", v, c.count)
				}
			default:
				if _, err := unix.Read(got, make([]byte, 8)); err != unix.EAGAIN {
					t.Errorf("read: %v", err)
				}
			}
		})
	}
}

func eventfdImage(flags uint32, count uint64) *images {
	im := &images{}
	e := &eventfd.EventfdFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(flags), Fown: noOwner(), Counter: proto.Uint64(count)}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_EVENTFD.Enum(), Efd: e}, nil)
	return im
}

func TestEventfdPlan(t *testing.T) {
	p, err := planAll(eventfdImage(3, 9), nil)
	if err != nil || p.Node(1).String() != "eventfd 0x1: counter 9, semaphore" {
		t.Errorf("%v, %v", p.Node(1), err)
	}
	_, err = planAll(eventfdImage(2, math.MaxUint64), nil)
	mustFail(t, err, "can't be")
}
