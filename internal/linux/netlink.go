package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Netlink is a netlink socket for questions that the kernel answers at once.
// It is not for use by several goroutines at the same time.
//
// The kernel puts the first answers into the socket's queue before sendmsg(2)
// returns, and more whenever some are taken (netlink_dump() of
// net/netlink/af_netlink.c). So an answer that is not there will never come, and
// nobody waits for one: while a tree stands still nothing may.
type Netlink struct {
	nl  *netlink.Conn // nil if somebody else has the socket
	raw controlled
	buf []byte
	seq uint32
}

// ErrNoAnswer says that the kernel has not answered what it answers at once.
var ErrNoAnswer = errors.New("the kernel has not answered")

// netlinkBuffer is what one receive can take, in bytes. The kernel fills up to
// 32 KiB at a time for those who offer that much.
const netlinkBuffer = 32 << 10

// DialNetlink opens a socket of a family (NETLINK_*) in the network namespace
// behind descriptor netns; 0 is that of the calling thread. Entering another one needs
// CAP_SYS_ADMIN there and costs a few milliseconds (the kernel waits for a grace
// period).
func DialNetlink(family, netns int) (*Netlink, error) {
	nl, err := netlink.Dial(family, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, err
	}
	raw, err := nl.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	return &Netlink{nl: nl, raw: raw, buf: make([]byte, netlinkBuffer)}, nil
}

// NetlinkOn asks through a socket that is open already, and stays open: Close is not called.
func NetlinkOn(fd int) *Netlink {
	return &Netlink{raw: borrowed(fd), buf: make([]byte, netlinkBuffer), seq: ownSeq}
}

// ownSeq is where the numbers of questions begin through a socket that others ask through, too:
// what is left of answers to them is passed over.
const ownSeq = 1 << 31

// controlled is the part of a syscall.RawConn that is needed.
type controlled interface {
	Control(f func(fd uintptr)) error
}

// borrowed is a socket that its owner keeps open meanwhile.
type borrowed int

func (b borrowed) Control(f func(fd uintptr)) error {
	f(uintptr(b))
	return nil
}

// Close closes the socket.
func (n *Netlink) Close() error { return n.nl.Close() }

// Ask sends a request and calls fn with type and body of every answer. The body
// is only valid during the call. An error of the kernel's is a syscall.Errno.
//
// Answers are taken to their end even if fn fails. Those to an earlier request
// that were left, as that was not so, are passed over.
func (n *Netlink) Ask(typ uint16, flags netlink.HeaderFlags, request []byte, fn func(typ uint16, body []byte) error) error {
	n.seq++
	m := netlink.Message{Header: netlink.Header{
		Length: uint32(unix.NLMSG_HDRLEN + (len(request)+3)&^3), Type: netlink.HeaderType(typ), Flags: netlink.Request | flags, Sequence: n.seq,
	}, Data: request}
	b, err := m.MarshalBinary()
	if err != nil {
		return err
	}
	if err := n.call(func(s int) error {
		return unix.Sendto(s, b, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	var failed error
	for {
		b, err := n.receive()
		if err != nil {
			return errors.Join(failed, err)
		}
		done, err := answers(b, n.seq, func(typ uint16, body []byte) {
			if failed == nil {
				failed = fn(typ, body)
			}
		})
		if done || err != nil {
			return errors.Join(failed, err)
		}
	}
}

// togetherAsked is how many questions are asked by one call: there is room for the
// answers to them in the queue of any socket.
const togetherAsked = 32

// AskEach sends many requests, each of which has one answer, and calls fn with the
// number of each and the answer's body, which is only valid during the call, or the
// kernel's error. The requests are made by request, in order.
func (n *Netlink) AskEach(typ uint16, count int, request func(i int) []byte, fn func(i int, body []byte, err error)) error {
	for from := 0; from < count; from += togetherAsked {
		some := min(togetherAsked, count-from)
		first := n.seq + 1
		n.seq += uint32(some)
		var all []byte
		for i := range some {
			body := request(from + i)
			m := netlink.Message{Header: netlink.Header{
				Length: uint32(unix.NLMSG_HDRLEN + (len(body)+3)&^3), Type: netlink.HeaderType(typ), Flags: netlink.Request, Sequence: first + uint32(i),
			}, Data: body}
			b, err := m.MarshalBinary()
			if err != nil {
				return err
			}
			all = append(all, b...)
		}
		err := n.call(func(s int) error {
			return unix.Sendto(s, all, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		})
		if err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		if err := n.takeEach(some, first, func(i int, body []byte, err error) { fn(from+i, body, err) }); err != nil {
			return err
		}
	}
	return nil
}

// takeEach takes the answers to some requests, the numbers of which begin with first.
func (n *Netlink) takeEach(some int, first uint32, fn func(i int, body []byte, err error)) error {
	for left := some; left > 0; {
		b, err := n.receive()
		if err != nil {
			return err
		}
		all, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return fmt.Errorf("an answer of %d bytes makes no sense: %w", len(b), err)
		}
		for _, m := range all {
			i := m.Header.Seq - first
			if i >= uint32(some) {
				continue
			}
			left--
			if m.Header.Type == unix.NLMSG_ERROR {
				fn(int(i), nil, errorOf(m.Data))
				continue
			}
			fn(int(i), m.Data, nil)
		}
	}
	return nil
}

// call makes a system call on the socket, which returns at once.
func (n *Netlink) call(f func(s int) error) error {
	var err error
	again := func(s uintptr) {
		for {
			if err = f(int(s)); err != unix.EINTR {
				return
			}
		}
	}
	if e := n.raw.Control(again); e != nil {
		return e
	}
	return err
}

func (n *Netlink) receive() ([]byte, error) {
	var got int
	err := n.call(func(s int) (err error) {
		got, _, err = unix.Recvfrom(s, n.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		return err
	})
	switch {
	case err == unix.EAGAIN:
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case err != nil:
		return nil, fmt.Errorf("take the kernel's answer: %w", err)
	case got > len(n.buf):
		return nil, fmt.Errorf("an answer of %d bytes was cut: %w", got, unix.EMSGSIZE)
	}
	return n.buf[:got], nil
}

// answers calls fn with the answers in b to the request of this number. done
// tells that there are no more.
func answers(b []byte, seq uint32, fn func(typ uint16, body []byte)) (done bool, err error) {
	all, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false, fmt.Errorf("an answer of %d bytes makes no sense: %w", len(b), err)
	}
	for _, m := range all {
		if m.Header.Seq != seq {
			continue
		}
		switch m.Header.Type {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			return true, errorOf(m.Data)
		}
		fn(m.Header.Type, m.Data)
		done = m.Header.Flags&unix.NLM_F_MULTI == 0
	}
	return done, nil
}

// errorOf is the error that a message begins with which ends the answers.
func errorOf(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if e := int32(binary.NativeEndian.Uint32(b)); e < 0 {
		return unix.Errno(-e)
	}
	return nil
}
