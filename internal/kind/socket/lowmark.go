package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Of SO_RCVLOWAT a TCP socket takes half of its receive buffer at most, if somebody has set
// the size of that, else half of what the machine allows; then it makes the buffer larger,
// and changes TCP_WINDOW_CLAMP: tcp_set_rcvlowat() in net/ipv4/tcp.c. So what it has may be
// more than it would take by now, from before the buffer got its size. It is given that
// while its buffer is large, and locked.

// lowest is the least that can be set. A connection of a listener of Multipath TCP that is
// one of TCP alone has 0, which means the same: sock_rcvlowat() in include/net/sock.h.
const lowest = 1

// markOfTCP tells whether an option is SO_RCVLOWAT of a TCP socket.
func (k *Kernel) markOfTCP(o *Option) bool {
	return o.Opt == unix.SO_RCVLOWAT && o.Level == unix.SOL_SOCKET && k.Table.named("TCP_NODELAY") >= 0
}

// setMark sets it, and leaves the size of the buffer and its lock as they are.
func (k *Kernel) setMark(h linux.Hand, fd int, o *Option, v Value) error {
	if v.Lo == 0 {
		v.Lo = lowest
	}
	if err := h.Run(); err != nil {
		return err
	}
	size, locks := k.Table.named("SO_RCVBUF"), k.Table.named("SO_BUF_LOCK")
	if size < 0 || locks < 0 || !k.Fresh[locks].OK {
		return fmt.Errorf("set SO_RCVLOWAT to %d: the kernel has no SO_BUF_LOCK", v.Lo)
	}
	if k.fixed[locks] { // of Multipath TCP: more than it takes it has only if it is locked
		if err := o.set(linux.Hand{}, fd, o.Opt, v); err != nil || o.has(fd, v) == nil {
			return err
		}
	}
	was, err := k.Table[size].get(fd)
	if err != nil {
		return err
	}
	lock, err := k.Table[locks].get(fd)
	if err != nil {
		return err
	}
	err = errors.Join(k.sizeFor(fd, size, max(uint32(v.Lo), uint32(was.Lo)/2)), o.set(linux.Hand{}, fd, o.Opt, v), k.sizeFor(fd, size, uint32(was.Lo)/2))
	if !k.fixed[locks] {
		err = errors.Join(err, k.Table[locks].set(linux.Hand{}, fd, unix.SO_BUF_LOCK, lock))
	}
	return errors.Join(err, o.has(fd, v))
}

// sizeFor sets a size of which the kernel makes twice as much, as far as it is allowed.
func (k *Kernel) sizeFor(fd, i int, half uint32) error {
	o := &k.Table[i]
	err := o.set(linux.Hand{}, fd, o.Force, Uint(half))
	if errors.Is(err, unix.EPERM) {
		return o.set(linux.Hand{}, fd, o.Opt, Uint(half))
	}
	return err
}

// has returns an error if an option hasn't a value.
func (o *Option) has(fd int, v Value) error {
	got, err := o.get(fd)
	if err == nil && got != v {
		err = fmt.Errorf("set %s to %d: the kernel allows %d; more needs CAP_NET_ADMIN or a higher net.core.rmem_max", o.Name, v.Lo, got.Lo)
	}
	return err
}
