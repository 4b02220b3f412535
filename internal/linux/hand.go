package linux

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Hand makes calls on sockets: each at once, or, if it has a ring, together as soon
// as Run is called. Then what fails is told by Run, and what comes after it is made
// all the same: what it was about is to be given up. ENOBUFS: there are too many.
type Hand struct {
	ring *Ring
	bare bool
}

// Together is a hand that makes calls by a ring.
func Together(r *Ring) Hand { return Hand{ring: r} }

// Many tells whether a hand is for many sockets: it was taken from Rings. None of its calls
// may be one that waits for somebody. What fails is told with less than who makes one
// socket tells, who is to try again.
func (h Hand) Many() bool { return h.ring != nil || h.bare }

// Waits tells whether calls may wait for Run.
func (h Hand) Waits() bool { return h.ring != nil }

// Setsockopt is Setsockopt.
func (h Hand) Setsockopt(fd, level, name int, value []byte) error {
	if h.ring == nil {
		return Setsockopt(fd, level, name, value)
	}
	return h.ring.setsockopt(fd, level, name, value)
}

// SetsockoptInt is SetsockoptInt.
func (h Hand) SetsockoptInt(fd, level, name, value int) error {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(value))
	return h.Setsockopt(fd, level, name, b[:])
}

// Bind is Bind.
func (h Hand) Bind(fd int, address []byte) error {
	if h.bare {
		return QuickBind(fd, address)
	}
	if h.ring == nil {
		return Bind(fd, address)
	}
	return h.ring.address(ringBind, fd, address)
}

// Connect is Connect.
func (h Hand) Connect(fd int, address []byte) error {
	if h.bare {
		return QuickConnect(fd, address)
	}
	if h.ring == nil {
		return Connect(fd, address)
	}
	return h.ring.address(ringConnect, fd, address)
}

// Open opens a file, see openat(2). If it waits, the descriptor is the result of the
// call of that number, see Results.
func (h Hand) Open(dir int, name string, flags int) (fd int, err error) {
	if h.ring == nil {
		return unix.Openat(dir, name, flags, 0)
	}
	return -1, h.ring.open(dir, name, flags)
}

// Results are those of all calls of the last Run, in their order: what they return,
// or the negative errno. They are valid until the next call waits.
func (h Hand) Results() []int32 {
	if h.ring == nil {
		return nil
	}
	return h.ring.results[:h.ring.ran]
}

// Run makes what waits. It returns the errno of the first call that fails.
func (h Hand) Run() error {
	if h.ring == nil || h.ring.n == 0 {
		return nil
	}
	return h.ring.run()
}

// Forget gives up what waits.
func (h Hand) Forget() {
	if r := h.ring; r != nil {
		r.tail -= uint32(r.n)
		r.n, r.used = 0, 0
	}
}

// SockaddrInet returns the address of an IPv4 or IPv6 socket (4 or 16 bytes), family first, see
// ip(7) and ipv6(7), in room for it.
func SockaddrInet(room *[28]byte, ip []byte, port uint16, zone uint32) []byte {
	*room = [28]byte{}
	binary.BigEndian.PutUint16(room[2:], port)
	if len(ip) == 4 {
		binary.NativeEndian.PutUint16(room[:], unix.AF_INET)
		copy(room[4:8], ip)
		return room[:16]
	}
	binary.NativeEndian.PutUint16(room[:], unix.AF_INET6)
	copy(room[8:24], ip)
	binary.NativeEndian.PutUint32(room[24:], zone)
	return room[:]
}
